// The loss of OpenAI's gpt2-xl without training, with the values of nanoGPT's config of the same name.
// 1558M weights: n_layer 48, n_head 25, n_embd 1600. Run: npx tsx train.ts config/eval_gpt2_xl.ts

import type { TrainConfig } from "../train.ts";

export default {
  batch_size: 8,
  eval_iters: 500, // many batches, for a good estimate
  eval_only: true,
  init_from: "gpt2-xl",
} satisfies Partial<TrainConfig>;
