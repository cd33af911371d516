// What the prepare scripts that hold a whole text in memory have in common: writing the files, and the closing lines.

import { mkdirSync } from "node:fs";
import { join } from "node:path";

import { writeFileAtomic } from "../engine/atomic.ts";
import { explain } from "../engine/errors.ts";
import { shownPath } from "./dataset.ts";
import { type CharacterMeta, type Complete, type Gpt2Meta, listCharacters, type TextSource } from "./meta.ts";
import { writeTokens } from "./token_file.ts";

/** meta.json as such a script writes it. */
export type PreparedMeta = Complete<CharacterMeta> | (Complete<Gpt2Meta> & { source: TextSource });

/** Write train.bin, val.bin and meta.json into `directory`, meta.json last: where it stands, the others are there. */
export function writeDataset(directory: string, train: Uint16Array, val: Uint16Array, meta: PreparedMeta): void {
  try {
    mkdirSync(directory, { recursive: true });
    writeTokens(join(directory, "train.bin"), train);
    writeTokens(join(directory, "val.bin"), val);
    writeFileAtomic(join(directory, "meta.json"), `${JSON.stringify(meta, null, 1)}\n`);
  } catch (error) {
    throw explain(error, `cannot write into ${shownPath(directory)}`);
  }
}

/** What a prepare script prints in the end: the counts by which a person sees that all went well. */
export function describe(meta: PreparedMeta): string {
  const count = (n: number) => n.toLocaleString("en-US");
  return [
    `text:       ${meta.source.name}, ${count(meta.source.characters)} characters`,
    ...(meta.kind === "char" ? [`characters: ${listCharacters(meta.itos)}`] : []),
    `vocab_size: ${count(meta.vocab_size)}`,
    `train.bin:  ${count(meta.train_tokens)} tokens`,
    `val.bin:    ${count(meta.val_tokens)} tokens`,
  ].join("\n");
}
