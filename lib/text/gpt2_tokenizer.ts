// GPT-2's byte-pair encoding, token for token as tiktoken's "gpt2". The byte pairs are gpt-tokenizer's; its own `encode`
// (4.0.0) differs from tiktoken in white space and `<|endoftext|>`, is slower, and takes quadratic time in a word's
// length. Left out: other encodings.

import bytePairs from "gpt-tokenizer/bpeRanks/r50k_base";

import { UserError } from "../common/errors.ts";
import { END_OF_TEXT, END_OF_TEXT_TOKEN } from "./end_of_text.ts";
import { mergePairs } from "./merge_pairs.ts";
import type { Gpt2Meta } from "./meta.ts";
import type { Tokenizer } from "./tokenizer_types.ts";

// Words, numbers, other signs and white space: GPT-2's split before merging. White space is Unicode's property, as
// in tiktoken; JavaScript's \s lacks U+0085 and has U+FEFF.
const SPLIT =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

// Texts repeat their words, so most are looked up: five times the speed, or more. A full cache is emptied.
const MAX_WORDS = 100_000;
const MAX_WORD = 64; // characters
const LONGEST_WORD = 2 ** 24; // characters: merging takes some 30 bytes for each, and a second for a million

/** A lone surrogate, which UTF-8 can't represent, is encoded as U+FFFD. */
export function gpt2Tokenizer(meta: Gpt2Meta): Tokenizer {
  const encoder = new TextEncoder();
  const rankOf = new Map(bytePairs.map((_, token) => [Buffer.from(bytesOf(token)).toString("latin1"), token]));
  const words = new Map<string, readonly number[]>();

  function encode(text: string, { special = false } = {}): number[] {
    const tokens: number[] = [];
    for (const [i, document] of (special ? text.split(END_OF_TEXT) : [text]).entries()) {
      if (i > 0) tokens.push(END_OF_TEXT_TOKEN);
      SPLIT.lastIndex = 0;
      for (let start = 0; SPLIT.test(document); start = SPLIT.lastIndex) {
        for (const token of tokensOf(document.slice(start, SPLIT.lastIndex))) tokens.push(token);
      }
    }
    return tokens;
  }

  function tokensOf(word: string): readonly number[] {
    const known = words.get(word);
    if (known !== undefined) return known;
    if (word.length > LONGEST_WORD) {
      const length = word.length.toLocaleString("en-US");
      throw new UserError(
        `a word of ${length} characters without white space takes too much memory as tokens; break it up`,
      );
    }
    const bytes = Buffer.from(word).toString("latin1");
    const whole = rankOf.get(bytes);
    const tokens = whole !== undefined ? [whole] : mergePairs(bytes, rankOf);
    if (words.size >= MAX_WORDS) words.clear();
    // a copy, because a slice keeps the whole text in memory
    if (word.length <= MAX_WORD) words.set(Buffer.from(word, "utf16le").toString("utf16le"), tokens);
    return tokens;
  }

  function bytesOf(token: number): Uint8Array {
    const pair = token === END_OF_TEXT_TOKEN ? END_OF_TEXT : (bytePairs[token] ?? "\uFFFD");
    return typeof pair === "string" ? encoder.encode(pair) : Uint8Array.from(pair);
  }

  function decoder() {
    const utf8 = new TextDecoder("utf-8", { ignoreBOM: true }); // keeps the mark: a token's bytes are text, not a file
    return {
      push: (token: number) => utf8.decode(bytesOf(token), { stream: true }),
      end: () => utf8.decode(),
    };
  }

  function decode(tokens: Iterable<number>): string {
    const { push, end } = decoder();
    return Array.from(tokens, push).join("") + end();
  }

  return { vocabSize: meta.vocab_size, meta, encode, decode, decoder };
}
