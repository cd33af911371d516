// GPT-2 (124M) from scratch on OpenWebText, with the values of nanoGPT's config of the same name: a loss of about 2.85.
// Run: npx tsx train.ts config/train_gpt2.ts
// These are 295 billion tokens, which 8 A100s process in five days. Two cores at 3.1 s for 1,024 tokens need 28 years,
// so on a CPU use it as a starting point: fewer max_iters and lr_decay_iters, a smaller model, or init_from gpt2.

import type { TrainConfig } from "../train.ts";

export default {
  wandb_project: "owt",
  wandb_run_name: "gpt2-124M",

  // 12 sequences * 1,024 tokens * 40 batches = 491,520 tokens a step
  batch_size: 12,
  block_size: 1024,
  gradient_accumulation_steps: 5 * 8,

  max_iters: 600_000, // 295 billion tokens in total
  lr_decay_iters: 600_000,

  eval_interval: 1000,
  eval_iters: 200,
  log_interval: 10,

  weight_decay: 0.1,
} satisfies Partial<TrainConfig>;
