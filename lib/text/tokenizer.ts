// Text to tokens and back, by meta.json: characters, or GPT-2's byte pairs without a meta.json. Tokens without text are written as their
// numbers.
//   const tokenizer = await createTokenizer(readMeta("data/shakespeare_char") ?? GPT2_META);   tokenizer.decode(tokenizer.encode("O Romeo"));
// Left out: creating vocabularies; see the datasets' prepare scripts.

import { UserError } from "../common/errors.ts";
import { type CharacterMeta, checkMeta, codePoint, type IdsMeta, listCharacters, type Meta } from "./meta.ts";
import type { Tokenizer } from "./tokenizer_types.ts";

export type { StreamDecoder, Tokenizer } from "./tokenizer_types.ts";

/** The tokenizer of `meta`, such as a checkpoint's. @throws UserError with `where` if it is invalid */
export async function createTokenizer(meta: unknown, where = "the tokenizer's meta"): Promise<Tokenizer> {
  return build(checkMeta(meta, where, "use a checkpoint or a meta.json that was written by these scripts"));
}

async function build(meta: Meta): Promise<Tokenizer> {
  switch (meta.kind) {
    case "char":
      return characterTokenizer(meta);
    case "gpt2": {
      const { gpt2Tokenizer } = await import("./gpt2_tokenizer.ts"); // 50,000 byte pairs that others don't need
      return gpt2Tokenizer(meta);
    }
    case "ids":
      return numberTokenizer(meta);
    default:
      throw new Error(`internal: no tokenizer for ${meta satisfies never}`);
  }
}

/** One token per character (Unicode code point). */
function characterTokenizer(meta: CharacterMeta): Tokenizer {
  const { itos } = meta;
  const ids = new Map(itos.map((character, id) => [character, id]));
  const push = (token: number) => itos[token] ?? "\uFFFD";

  function idOf(character: string): number {
    const id = ids.get(character);
    if (id !== undefined) return id;
    const number = codePoint(character).toString(16).toUpperCase().padStart(4, "0");
    const known = `the vocabulary has ${itos.length}: ${listCharacters(itos)}`;
    throw new UserError(`no token for the character ${JSON.stringify(character)} (U+${number}); ${known}`);
  }

  return {
    vocabSize: meta.vocab_size,
    meta,
    encode: (text) => Array.from(text, idOf),
    decode: (tokens) => Array.from(tokens, push).join(""),
    decoder: () => ({ push, end: () => "" }),
  };
}

/** For tokens without text: their numbers, "12 7 250". */
function numberTokenizer(meta: IdsMeta): Tokenizer {
  const { vocab_size } = meta;

  function idOf(word: string): number {
    const id = /^\d+$/.test(word) ? Number(word) : vocab_size;
    if (id < vocab_size) return id;
    const advice = `write their numbers, 0 to ${vocab_size - 1}, with spaces between them`;
    throw new UserError(`the model's tokens have no text, and ${JSON.stringify(word)} is none of them; ${advice}`);
  }

  return {
    vocabSize: vocab_size,
    meta,
    encode: (text) => (text.match(/[^\s,]+/g) ?? []).map(idOf),
    decode: (tokens) => Array.from(tokens).join(" "),
    decoder: () => ({ push: (token) => ` ${token}`, end: () => "" }), // after a prompt of numbers
  };
}
