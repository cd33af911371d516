// Finetunes OpenAI's GPT-2 on Shakespeare, with the values of nanoGPT's config of the same name.
// Run: npx tsx train.ts config/finetune_shakespeare.ts --init_from=gpt2 (124M weights instead of 1558M: a tenth of the time
// and memory; gpt2-xl needs about 25 GB for weights, gradients and optimizer state)

import type { TrainConfig } from "../train.ts";

export default {
  out_dir: "out-shakespeare",
  eval_interval: 5,
  eval_iters: 40,
  always_save_checkpoint: false, // so only a better validation loss is worth a checkpoint

  wandb_project: "shakespeare",
  wandb_run_name: "finetune",

  dataset: "shakespeare",
  init_from: "gpt2-xl", // the largest GPT-2

  // 1 sequence * 32 batches * 1,024 tokens = 32,768 tokens a step; shakespeare has 301,966, so 9.2 steps are an epoch
  batch_size: 1,
  gradient_accumulation_steps: 32,
  max_iters: 20,

  learning_rate: 3e-5, // small: the weights are already good
  decay_lr: false,
} satisfies Partial<TrainConfig>;
