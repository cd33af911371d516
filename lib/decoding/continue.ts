// Sampling by architecture: a decoder continues a prompt, an encoder predicts its masked tokens, an encoder-decoder writes a target
// for it.

import type { GPT, GPTConfig } from "../../model.ts";
import { UserError } from "../common/errors.ts";
import type { Engine } from "../engine/runtime/program.ts";
import type { Pairs } from "../text/meta.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { createCachedDecoder } from "./cached_decoder.ts";
import type { DecoderWeights } from "./decoder.ts";
import { createGuesser, fillTexts, MASK } from "./fill_masks.ts";
import { generateTexts, type Sample, type TextOptions } from "./generate.ts";
import { createPlainDecoder } from "./plain_decoder.ts";

/** From a prompt's tokens to texts, like `generateTexts`. */
export interface Continuer {
  (ids: readonly number[], samples: readonly number[], options: TextOptions): AsyncIterable<readonly Sample[]>;
  dispose(): Promise<void>;
}

interface ContinueOptions {
  frozen?: DecoderWeights | undefined; // how a compiled model stores its weights; without it the model isn't compiled
  pairs?: Pairs | undefined; // that the model was trained on
}

/** Prepare a model for sampling, with its present weights. */
export async function createContinuer(
  engine: Engine,
  model: GPT,
  tokenizer: Tokenizer,
  { frozen, pairs }: ContinueOptions,
): Promise<Continuer> {
  const { architecture, block_size, vocab_size } = model.config;
  if (architecture === "encoder") {
    const guess = await createGuesser(engine, model, frozen);
    return Object.assign(
      (ids: readonly number[], samples: readonly number[], options: TextOptions) =>
        fillTexts(guess.run, tokenizer, ids, samples, { ...options, vocab_size }),
      { dispose: guess.dispose },
    );
  }
  const decoder = frozen
    ? await createCachedDecoder(engine, model, frozen, pairs?.end)
    : createPlainDecoder(model, pairs?.end);
  return Object.assign(
    (ids: readonly number[], samples: readonly number[], options: TextOptions) => {
      if (!pairs) return generateTexts(decoder, tokenizer, ids, samples, options);
      const { max_new_tokens, stop = [] } = options; // a target ends, and is no longer than in training
      const ends = [...stop, tokenizer.decode([pairs.end])];
      const most = Math.min(max_new_tokens, block_size);
      return generateTexts(decoder, tokenizer, ids, samples, { ...options, max_new_tokens: most, stop: ends });
    },
    { dispose: () => decoder.dispose() },
  );
}

/** @throws UserError if a prompt that the model must see whole is too long, isn't a source, or has no masked token for an encoder */
export function checkPromptFits(
  ids: readonly number[],
  { architecture, block_size }: GPTConfig,
  pairs: Pairs | undefined,
): void {
  if (pairs && ids.includes(pairs.end)) {
    throw new UserError("the model writes a target for a source; give one in --start, on one line");
  }
  if (ids.length > block_size) {
    throw new UserError(`--start has ${ids.length} tokens, and the model reads ${block_size} at most; shorten it`);
  }
  if (architecture === "encoder" && !ids.includes(-1)) {
    throw new UserError(`the model is an encoder, which predicts masked tokens; write ${MASK} for each in --start`);
  }
}
