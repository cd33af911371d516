// Baby GPT: a character-level model of Shakespeare's plays, the values of nanoGPT's config of the same name.
// Run: npx tsx train.ts config/train_shakespeare_char.ts (train_shakespeare_char_cpu.ts takes minutes)

import type { TrainConfig } from "../train.ts";

export default {
  out_dir: "out-shakespeare-char",
  eval_interval: 250, // the model starts to memorise the plays; often enough to catch its best state
  log_interval: 10,
  always_save_checkpoint: false, // so only a better validation loss is worth a checkpoint

  wandb_project: "shakespeare-char",
  wandb_run_name: "mini-gpt",

  dataset: "shakespeare_char",
  gradient_accumulation_steps: 1,
  batch_size: 64,
  block_size: 256, // characters of context

  n_layer: 6,
  n_head: 6,
  n_embd: 384,
  dropout: 0.2, // a million characters are few for ten million weights

  learning_rate: 1e-3, // small models tolerate larger steps
  max_iters: 5000,
  lr_decay_iters: 5000, // the decay ends with training
  min_lr: 1e-4, // a tenth of learning_rate
  beta2: 0.99, // a step sees few tokens, so average the variance over more of them
  warmup_iters: 100,
} satisfies Partial<TrainConfig>;
