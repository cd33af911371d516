// Two axes at once: does the best number of heads depend on depth?
// A tiny model, so that a run takes seconds.
// Run: npx tsx tools/experiment.ts run config/experiments/heads_and_depth.ts

import type { ExperimentSettings } from "../../tools/experiment/experiment_config.ts";
import small from "../train_shakespeare_char_cpu.ts";

const tiny = { n_embd: 64, learning_rate: 3e-3, min_lr: 3e-4 };
const short = { max_iters: 500, lr_decay_iters: 500, eval_interval: 100, warmup_iters: 50 };

export default {
  name: "heads_and_depth",
  base: { ...small, ...tiny, ...short, threads: 1 }, // one thread, for two runs at a time with --jobs=2
  axes: { n_head: [1, 2, 4], n_layer: [2, 4] },
  seeds: [1337, 1338, 1339],
} satisfies ExperimentSettings;
