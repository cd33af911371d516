// A new model with checked settings and random weights, for programs without a checkpoint: examples/, tools/compare/.

import { GPT, type GPTConfig, LAYER_CHOICES } from "../../model.ts";
import { checkModelArgs } from "./model_args.ts";

/** Required settings; all others default to GPT-2's. */
export type ModelOptions = Pick<GPTConfig, "n_layer" | "n_head" | "n_embd" | "block_size" | "vocab_size"> &
  Partial<GPTConfig>;

/**
 * A model with random weights, a function of `seed`: by default without dropout and biases and with an exact GELU, as in train.ts.
 * @throws UserError with a setting out of its range, or settings that conflict
 */
export function createModel(options: ModelOptions, seed = 1337): GPT {
  const config = { ...LAYER_CHOICES, dropout: 0, bias: false, ffn: "gelu", ...options };
  return new GPT(checkModelArgs(config, "createModel")).initWeights(seed);
}
