// The loss of OpenAI's gpt2-large without training, with the values of nanoGPT's config of the same name.
// 774M weights: n_layer 36, n_head 20, n_embd 1280. Run: npx tsx train.ts config/eval_gpt2_large.ts

import type { TrainConfig } from "../train.ts";

export default {
  batch_size: 8,
  eval_iters: 500, // many batches, for a good estimate
  eval_only: true,
  init_from: "gpt2-large",
} satisfies Partial<TrainConfig>;
