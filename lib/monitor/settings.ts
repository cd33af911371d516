// The settings of callbacks that watch a run and react to it, each with its default and a remark for --help; train.ts spreads them in.
// Imports nothing.

export const WATCHING = {
  // watching (docs/guides/monitoring.md); metrics.jsonl and a log are always written to out_dir
  callbacks: [] as string[], // files of your own, separated by commas, that watch the run
  stats_interval: 0, // steps between statistics of each layer's updates, gradients and activations; 0 for none
  sample_interval: 0, // evaluations between samples; 0 for none
  tensorboard: false, // write event files to out_dir/tensorboard
  histogram_interval: 0, // steps between histograms of weights and gradients there; 0 for none
  mlflow_uri: "", // an MLflow server, such as http://127.0.0.1:5000
};

export const REACTING = {
  // reacting
  early_stop_patience: 0, // evaluations without a better validation loss until the run ends; 0 for never
  lr_patience: 0, // evaluations without a better validation loss until the learning rate is lowered; 0 for never
  lr_factor: 0.5, // what the learning rate is multiplied by then, and at a loss spike
  spike_threshold: 0, // a loss this many deviations (MAD) above the last steps' median is a spike; 0 for none
  rollback: false, // at a spike, or if the loss is NaN, go back to the last checkpoint
};
