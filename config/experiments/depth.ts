// How much does another layer help, at equal steps? A deeper model also takes longer: see the time, too.
// A tiny model, so that a run takes seconds.
// Run: npx tsx tools/experiment.ts run config/experiments/depth.ts

import type { ExperimentSettings } from "../../tools/experiment/experiment_config.ts";
import small from "../train_shakespeare_char_cpu.ts";

const tiny = { n_head: 4, n_embd: 64, learning_rate: 3e-3, min_lr: 3e-4 };
const short = { max_iters: 1000, lr_decay_iters: 1000, eval_interval: 200 };

export default {
  name: "depth",
  base: { ...small, ...tiny, ...short, threads: 1 }, // one thread, for two runs at a time with --jobs=2
  axes: { n_layer: [1, 2, 4, 6] },
  seeds: [1337, 1338, 1339],
} satisfies ExperimentSettings;
