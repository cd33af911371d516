// bench.ts' settings for the benchmarks: those of measuring, with defaults and remarks for --help, which bench.ts spreads in, and the
// types of the training settings. Imports nothing that would affect the figures.

import type { Choices, FeedForwardName } from "../nn/choices.ts";
import type { OPTIMIZER_CHOICES } from "../training/choices.ts";

export const MEASURING = {
  // benchmark
  benchmark: "", // what to measure; "all" is all but layers; without a name --json and --profile run training_throughput, --compare its file's, and else all run
  steps: 30, // timed training steps
  warmup: 5, // steps before them
  rounds: 0, // repetitions of whole processes and slow benchmarks; 0 for 5, 3 for layers, 2 if all benchmarks run
  profile: false, // print which operations take a training step's time
  json: false, // print one JSON object last
  results: "out/benchmarks", // folder of the result files; empty writes none
  compare: "", // an earlier result file: print the ratios, and what got slower by more than the noise
  // of single benchmarks
  max_new_tokens: 100, // sampling, layers: timed tokens in a round; a small model reaches full speed after some thousands
  data_mb: 64, // data_loading: size of the token file
  factors: [0.5, 1, 2], // scaling: factors of each size, around the shape below
  choices: [] as string[], // layers: the settings to vary, such as pos,ffn; empty for all
  lengths: [0], // layers: measure only training's memory at these sequence lengths, such as 1024,2048; 0 for none
  to: "", // scaling: write a page and a picture, out/scaling for out/scaling.md and out/scaling.svg; layers with lengths: a picture
};

export type BenchSettings = Readonly<
  typeof MEASURING & Choices & typeof OPTIMIZER_CHOICES & TrainingSettings & ModelSettings
>;

interface ModelSettings {
  n_layer: number;
  n_head: number;
  n_embd: number;
  dropout: number;
  bias: boolean;
  ffn: FeedForwardName;
}

interface TrainingSettings {
  dataset: string;
  vocab_size: number;
  batch_size: number;
  micro_batch_size: number;
  gradient_accumulation_steps: number;
  block_size: number;
  learning_rate: number;
  weight_decay: number;
  beta1: number;
  beta2: number;
  grad_clip: number;
  device: string;
  dtype: string;
  compile: boolean;
  grad_checkpoint: boolean;
  threads: number;
  seed: number;
}

/** Settings that don't affect the figures. */
export const NOT_MEASURED: readonly string[] = ["benchmark", "profile", "json", "results", "compare", "to"];
