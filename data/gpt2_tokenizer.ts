// GPT-2's byte-pair encoding, token for token as tiktoken's "gpt2": the byte pairs and the merging are gpt-tokenizer's.
// Three things are done here, because the library's own `encode` and `decode` (4.0.0) differ from tiktoken in them:
// `<|endoftext|>` after the start of a text, U+0085 and U+FEFF among white space, and a U+FEFF in what is decoded.
// Leaves out speed for a single word of many thousand characters: merging takes time with its length squared.

import { BytePairEncodingCore } from "gpt-tokenizer/BytePairEncodingCore";
import bytePairs from "gpt-tokenizer/bpeRanks/r50k_base";

import type { Gpt2Meta } from "./meta.ts";
import type { Tokenizer } from "./tokenizer.ts";

const END_OF_TEXT = "<|endoftext|>";
const END_OF_TEXT_TOKEN = 50_256;

// Words, numbers, other signs and white space, as GPT-2 splits before it merges. White space is Unicode's property, as
// in tiktoken; JavaScript's \s lacks U+0085 and has U+FEFF.
const SPLIT =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

/** Encoding takes `<|endoftext|>` for the token that separates documents, wherever it stands. */
export function gpt2Tokenizer(meta: Gpt2Meta): Tokenizer {
  const core = new BytePairEncodingCore({ bytePairRankDecoder: bytePairs, tokenSplitRegex: SPLIT });
  const encoder = new TextEncoder();

  function encode(text: string): number[] {
    const tokens: number[] = [];
    for (const [i, document] of text.split(END_OF_TEXT).entries()) {
      if (i > 0) tokens.push(END_OF_TEXT_TOKEN);
      // the generator, because `encodeNative` runs out of stack on a word of 100,000 tokens
      for (const word of core.encodeNativeGenerator(document)) for (const token of word) tokens.push(token);
    }
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
