// A dataset of GPT-2's tokens out of one text, whose parts are encoded on their own, so no token stands across the
// split. Leaves out texts that don't fit into memory; data/openwebtext has no such limit.

import { UserError } from "../engine/errors.ts";
import { GPT2_META } from "./meta.ts";
import type { SourcedText } from "./text.ts";
import { createTokenizer } from "./tokenizer.ts";
import { type PreparedMeta, writeDataset } from "./write_dataset.ts";

/** Write train.bin (the first 90 % of the characters), val.bin (the rest) and meta.json into `directory`; returns what
 * meta.json holds. A UserError where the text is too short: then nothing is written. */
export async function prepareBytePairs({
  text,
  source,
  directory,
}: SourcedText & { directory: string }): Promise<PreparedMeta> {
  // 1) where to split: a character is a Unicode code point, as in Python
  let characters = 0;
  for (const _ of text) characters++;
  const split = offsetOf(text, Math.floor(characters * 0.9));

  // 2) the tokens
  const { encode } = await createTokenizer(GPT2_META);
  const [train, val] = [text.slice(0, split), text.slice(split)].map((part) => Uint16Array.from(encode(part)));
  if (train === undefined || val === undefined || train.length < 2 || val.length < 2) {
    throw new UserError(`${source.name} has ${characters} characters, too few to be split 90 to 10; use a longer text`);
  }

  // 3) the files
  const meta = {
    ...GPT2_META,
    source: { ...source, characters },
    train_tokens: train.length,
    val_tokens: val.length,
  };
  writeDataset(directory, train, val, meta);
  return meta;
}

/** Where the character number `index` starts, in UTF-16 units. */
function offsetOf(text: string, index: number): number {
  let offset = 0;
  for (const character of text) {
    if (index-- === 0) break;
    offset += character.length;
  }
  return offset;
}
