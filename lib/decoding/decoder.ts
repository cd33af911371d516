// The contract of a decoder: given tokens, the logits of the next one. There are two, which must agree token for token: the cached
// one, compiled, and the plain one, which runs the whole model for every token.

import type { FrozenOptions } from "../engine/runtime/frozen.ts";

/** How a compiled decoder stores the weights, and where it reads them; without `place`, from the model. */
export type DecoderWeights = Pick<FrozenOptions, "int8" | "place" | "read">;

/** Continues several sequences of the same length at once, one token per step. */
export interface Decoder {
  readonly vocabSize: number;
  /** Start over with `copies` sequences that all begin with `prompt` (at least one token).
   * @returns the logits of each one's next token, [copies * V]; valid until the next call */
  start(prompt: readonly number[], copies: number): Promise<Float32Array>;
  /** One more token for each sequence -> logits, as `start`. Past block_size the window slides, as nanoGPT's crop does. */
  next(tokens: readonly number[]): Promise<Float32Array>;
  dispose(): Promise<void>;
}
