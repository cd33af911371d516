// A smaller baby GPT that a laptop's CPU trains in a minute or two, from nanoGPT's readme. It writes to the same
// folder as train_shakespeare_char.ts, so that the sample command stays the same.
// Run: npx tsx train.ts config/train_shakespeare_char_cpu.ts

import type { TrainConfig } from "../train.ts";

export default {
  out_dir: "out-shakespeare-char",
  eval_interval: 250,
  eval_iters: 20, // a noisier loss, but evaluation stays a small part of the run
  log_interval: 10,
  always_save_checkpoint: false,

  dataset: "shakespeare_char",
  gradient_accumulation_steps: 1,
  batch_size: 12,
  block_size: 64,

  n_layer: 4,
  n_head: 4,
  n_embd: 128,
  dropout: 0, // too small and too briefly trained to memorise anything

  learning_rate: 1e-3,
  max_iters: 2000,
  lr_decay_iters: 2000,
  min_lr: 1e-4,
  beta2: 0.99,
  warmup_iters: 100,
} satisfies Partial<TrainConfig>;
