// A character-level dataset out of one text: every distinct character is a token, numbered in the order of its code
// point. A character is a Unicode code point, as in Python: an emoji is one, not two UTF-16 units.
// Leaves out texts that don't fit into memory.

import { UserError } from "../engine/errors.ts";
import { type CharacterMeta, type Complete, codePoint } from "./meta.ts";
import type { SourcedText } from "./text.ts";
import { writeDataset } from "./write_dataset.ts";

const MAX_VOCABULARY = 65_536; // token files hold 16 bits a token

/** Write train.bin (the first 90 %), val.bin (the rest) and meta.json into `directory`; returns what meta.json holds.
 * A UserError where the text is too short or has too many different characters: then nothing is written. */
export function prepareCharacters({
  text,
  source,
  directory,
}: SourcedText & { directory: string }): Complete<CharacterMeta> {
  // 1) the vocabulary
  const seen = new Set<string>();
  let characters = 0;
  for (const character of text) {
    seen.add(character);
    characters++;
  }
  if (seen.size > MAX_VOCABULARY) {
    const limit = MAX_VOCABULARY.toLocaleString("en-US");
    throw new UserError(
      `${source.name} has ${seen.size} different characters, more than ${limit}; use another dataset`,
    );
  }
  const itos = [...seen].sort((a, b) => codePoint(a) - codePoint(b));

  // 2) the tokens, and where to split them
  const ids = new Map(itos.map((character, id) => [character, id]));
  const tokens = new Uint16Array(characters);
  let at = 0;
  for (const character of text) tokens[at++] = ids.get(character) ?? 0;
  const split = Math.floor(characters * 0.9);
  if (split < 2 || characters - split < 2) {
    throw new UserError(`${source.name} has ${characters} characters; 11 are the least that can be split 90 to 10`);
  }

  // 3) the files
  const meta: Complete<CharacterMeta> = {
    kind: "char",
    vocab_size: itos.length,
    itos,
    stoi: Object.fromEntries(ids), // defines own properties, whatever the key
    source: { ...source, characters },
    train_tokens: split,
    val_tokens: characters - split,
  };
  writeDataset(directory, tokens.subarray(0, split), tokens.subarray(split), meta);
  return meta;
}
