// GPT-2's tokenizer as the files that Hugging Face's libraries load, made from the list of tokens alone: the merges and their order
// follow from it. vocab.json and merges.txt are GPT-2's own; fast tokenizers and transformers.js read tokenizer.json. Left out: other
// vocabularies.

import bytePairs from "gpt-tokenizer/bpeRanks/r50k_base";

import { jsonText } from "../common/atomic.ts";
import { END_OF_TEXT, END_OF_TEXT_TOKEN } from "../text/end_of_text.ts";
import { mergePairs } from "../text/merge_pairs.ts";

/** The text of each file, by its name. */
export function gpt2TokenizerFiles(block_size: number): Record<string, string> {
  const tokens = bytePairs.map(latin1);
  const vocab = Object.fromEntries([...tokens.map(visible), END_OF_TEXT].map((token, id) => [token, id]));
  const merges = mergesOf(tokens).map((pair) => pair.map(visible).join(" "));
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
  const endOfText = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  return {
    "vocab.json": JSON.stringify(vocab),
    "merges.txt": `#version: 0.2\n${merges.join("\n")}\n`,
    "tokenizer.json": jsonText({
      version: "1.0",
      truncation: null,
      padding: null,
      added_tokens: [{ id: END_OF_TEXT_TOKEN, content: END_OF_TEXT, ...endOfText }],
      normalizer: null,
      pre_tokenizer: byteLevel,
      post_processor: null,
      decoder: byteLevel,
      model: {
        ...{ type: "BPE", dropout: null, unk_token: null, continuing_subword_prefix: "", end_of_word_suffix: "" },
        ...{ fuse_unk: false, byte_fallback: false, vocab, merges },
      },
    }),
    "tokenizer_config.json": jsonText({
      tokenizer_class: "GPT2Tokenizer",
      model_max_length: block_size,
      ...{ bos_token: END_OF_TEXT, eos_token: END_OF_TEXT, unk_token: END_OF_TEXT },
      add_prefix_space: false,
      clean_up_tokenization_spaces: false,
    }),
  };
}

/** The bytes of a token, one character each. */
const latin1 = (pair: string | readonly number[]) =>
  Buffer.from(typeof pair === "string" ? pair : Uint8Array.from(pair)).toString("latin1");

/** The merge of each longer token: the two tokens that earlier merges make of its bytes. */
function mergesOf(tokens: readonly string[]): string[][] {
  const earlier = new Map<string, number>();
  const pairs: string[][] = [];
  for (const [rank, token] of tokens.entries()) {
    if (token.length > 1) pairs.push(mergePairs(token, earlier).map((part) => tokens[part]!));
    earlier.set(token, rank);
  }
  return pairs;
}

/** GPT-2 writes every byte as a visible character: itself if visible in Latin-1, else one from U+0100 on. */
const CHARACTER_OF_BYTE: string[] = [];
for (let byte = 0, hidden = 0; byte < 256; byte++) {
  const shown = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
  CHARACTER_OF_BYTE.push(String.fromCodePoint(shown ? byte : 0x100 + hidden++));
}

const visible = (token: string) => Array.from(token, (byte) => CHARACTER_OF_BYTE[byte.charCodeAt(0)]).join("");
