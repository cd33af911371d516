// What the prepare scripts that hold a whole text in memory have in common: writing the files, and the closing lines.

import { explain } from "../engine/errors.ts";
import { shownPath } from "./dataset.ts";
import { type CharacterMeta, type Complete, type Gpt2Meta, listCharacters, type TextSource } from "./meta.ts";
import { claimFolder, discardPartial, replaceDataset } from "./replace.ts";
import { TokenWriter } from "./token_writer.ts";

/** meta.json as such a script writes it. */
export type PreparedMeta = Complete<CharacterMeta> | (Complete<Gpt2Meta> & { source: TextSource });

/** Put train.bin, val.bin and meta.json into `directory`, in the place of a dataset that is there: all of them or none. */
export function writeDataset(directory: string, train: Uint16Array, val: Uint16Array, meta: PreparedMeta): void {
  const release = claimFolder(directory);
  let writer: TokenWriter | undefined;
  try {
    discardPartial(directory); // another run's, interrupted
    writer = new TokenWriter(directory);
    writer.append("train", train);
    writer.append("val", val);
    writer.flush();
    writer.close();
    replaceDataset(directory, meta);
  } catch (error) {
    writer?.close();
    discardPartial(directory);
    throw explain(error, `cannot write into ${shownPath(directory)}`);
  } finally {
    release();
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
