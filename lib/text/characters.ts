// A character-level dataset: every distinct character is a token, numbered in the order of its code point. A character is a
// Unicode code point, as in Python: an emoji is one, not two UTF-16 units. Leaves out reading files (prepare_texts.ts).

import { UserError } from "../common/errors.ts";
import type { CharacterMeta, Complete } from "./meta.ts";
import { splitOf, TextSplitter } from "./split_text.ts";
import type { SourcedText } from "./text.ts";
import { DatasetWriter } from "./write_dataset.ts";

const MAX_VOCABULARY = 65_536; // token files hold 16 bits per token
const CODE_POINTS = 0x110000;

/** The characters of a text that arrives in parts. */
export class CharacterCount {
  total = 0;
  readonly #seen = new Uint8Array(CODE_POINTS);

  /** Add a part of the text. @returns its number of characters */
  add(text: string): number {
    let count = 0;
    for (let i = 0; i < text.length; count++) {
      const point = text.codePointAt(i)!;
      this.#seen[point] = 1;
      i += point > 0xffff ? 2 : 1;
    }
    this.total += count;
    return count;
  }

  /** The distinct characters, by code point.
   * @throws UserError if there are more than a token file can hold */
  vocabulary(name: string): string[] {
    const itos: string[] = [];
    for (let point = 0; point < CODE_POINTS; point++) if (this.#seen[point]) itos.push(String.fromCodePoint(point));
    if (itos.length <= MAX_VOCABULARY) return itos;
    const limit = MAX_VOCABULARY.toLocaleString("en-US");
    throw new UserError(`${name} has ${itos.length} different characters, more than ${limit}; use another dataset`);
  }
}

/** Encode texts with a vocabulary that has all their characters. */
export function characterEncoder(itos: readonly string[]): (text: string) => Uint16Array {
  const ids = new Uint16Array(CODE_POINTS);
  for (const [id, character] of itos.entries()) ids[character.codePointAt(0)!] = id;
  return (text) => {
    const tokens = new Uint16Array(text.length);
    let length = 0;
    for (let i = 0; i < text.length; length++) {
      const point = text.codePointAt(i)!;
      tokens[length] = ids[point]!;
      i += point > 0xffff ? 2 : 1;
    }
    return tokens.subarray(0, length);
  };
}

/** meta.json of a character-level dataset. */
export function characterMeta(
  itos: string[],
  source: Complete<CharacterMeta>["source"],
  { train, val }: { train: number; val: number },
): Complete<CharacterMeta> {
  const stoi = Object.fromEntries(itos.map((character, id) => [character, id])); // own properties, whatever the key
  return { kind: "char", vocab_size: itos.length, itos, stoi, source, train_tokens: train, val_tokens: val };
}

/** Write train.bin (the first 90 %), val.bin (the rest) and meta.json into `directory`; returns meta.json's content.
 * @throws UserError if the text is too short or has too many different characters; then nothing is written */
export function prepareCharacters({
  text,
  source,
  directory,
}: SourcedText & { directory: string }): Complete<CharacterMeta> {
  const count = new CharacterCount();
  count.add(text);
  const itos = count.vocabulary(source.name);
  const split = splitOf(count.total, source.name);
  const meta = characterMeta(itos, { ...source, characters: count.total }, split);
  const writer = new DatasetWriter(directory);
  try {
    new TextSplitter(writer, characterEncoder(itos), split.train).add(text, count.total);
    writer.finish(meta);
  } finally {
    writer.close();
  }
  return meta;
}
