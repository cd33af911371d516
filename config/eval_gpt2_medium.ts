// The loss of OpenAI's gpt2-medium without training, with the values of nanoGPT's config of the same name.
// 350M weights: n_layer 24, n_head 16, n_embd 1024. Run: npx tsx train.ts config/eval_gpt2_medium.ts

import type { TrainConfig } from "../train.ts";

export default {
  batch_size: 8,
  eval_iters: 500, // many batches, for a good estimate
  eval_only: true,
  init_from: "gpt2-medium",
} satisfies Partial<TrainConfig>;
