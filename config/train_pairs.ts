// An encoder-decoder that learns to reverse words (data/pairs), on a laptop's CPU in about a minute. For your
// own pairs, data/pairs/prepare.ts prints the block_size.
// Run: npx tsx train.ts config/train_pairs.ts

import type { TrainConfig } from "../train.ts";

export default {
  out_dir: "out-pairs",
  eval_interval: 250,
  eval_iters: 10,
  log_interval: 10,
  always_save_checkpoint: false,

  dataset: "pairs",
  gradient_accumulation_steps: 1,
  batch_size: 64,
  block_size: 16, // the dataset's length

  architecture: "encoder_decoder",
  n_layer: 2, // of the encoder, and of the decoder
  n_head: 4,
  n_embd: 64,
  dropout: 0,

  learning_rate: 3e-3,
  max_iters: 1500,
  lr_decay_iters: 1500,
  min_lr: 3e-4,
  beta2: 0.99,
  warmup_iters: 100,
} satisfies Partial<TrainConfig>;
