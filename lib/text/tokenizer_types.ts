// What every tokenizer offers, whatever its tokens are.

import type { Meta } from "./meta.ts";

export interface Tokenizer {
  readonly vocabSize: number;
  readonly meta: Meta; // all that `createTokenizer` needs: what a checkpoint stores
  /** A UserError where the text holds a character that the vocabulary lacks. GPT-2's `<|endoftext|>` is text like any
   * other, unless `special` asks for the token that separates documents. */
  encode(text: string, options?: { special?: boolean }): number[];
  /** Tokens outside the vocabulary, which a model with a padded one may emit, become U+FFFD. */
  decode(tokens: Iterable<number>): string;
  /** For text that appears token by token. */
  decoder(): StreamDecoder;
}

/** Only ever gives out whole characters: a GPT-2 token may end in the middle of one. */
export interface StreamDecoder {
  push(token: number): string;
  /** What is left when no more tokens come: U+FFFD for a character that was not completed, or nothing. */
  end(): string;
}
