// A new model, its settings checked and its weights random, for programs that have no checkpoint: examples/, tools/compare/.

import { GPT, type GPTConfig, LAYER_CHOICES } from "../../model.ts";
import { checkModelArgs } from "./model_args.ts";

/** What has to be given; everything else is GPT-2's where it isn't. */
export type ModelOptions = Pick<GPTConfig, "n_layer" | "n_head" | "n_embd" | "block_size" | "vocab_size"> &
  Partial<GPTConfig>;

/**
 * A model with random weights, which are a function of `seed`: without dropout and biases and with an exact GELU where nothing else
 * is said, as in train.ts.
 * @throws UserError that names a setting out of its range, or two that can't go together
 */
export function createModel(options: ModelOptions, seed = 1337): GPT {
  const config = { ...LAYER_CHOICES, dropout: 0, bias: false, ffn: "gelu", ...options };
  return new GPT(checkModelArgs(config, "createModel")).initWeights(seed);
}
