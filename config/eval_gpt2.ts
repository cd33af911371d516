// The loss of OpenAI's gpt2 without training, with the values of nanoGPT's config of the same name.
// 124M weights: n_layer 12, n_head 12, n_embd 768. Run: npx tsx train.ts config/eval_gpt2.ts

import type { TrainConfig } from "../train.ts";

export default {
  batch_size: 8,
  eval_iters: 500, // many batches, for a good estimate
  eval_only: true,
  init_from: "gpt2",
} satisfies Partial<TrainConfig>;
