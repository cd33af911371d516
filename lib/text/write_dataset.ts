// What the prepare scripts have in common that write a dataset in one go: its files, and the closing lines.

import { explain } from "../common/errors.ts";
import { shownPath } from "./dataset.ts";
import { type CharacterMeta, type Complete, type Gpt2Meta, listCharacters, type TextSource } from "./meta.ts";
import { claimFolder, discardPartial, replaceDataset, type Split } from "./replace.ts";
import { TokenWriter } from "./token_writer.ts";

/** meta.json as such a script writes it. */
export type PreparedMeta = Complete<CharacterMeta> | (Complete<Gpt2Meta> & { source: TextSource });

/** A dataset on its way into a folder: until `finish` the one that is there counts. */
export class DatasetWriter {
  readonly #folder: string;
  readonly #release: () => void;
  readonly #writer: TokenWriter;

  /** @throws UserError where the folder can't be written, or another process writes into it */
  constructor(folder: string) {
    this.#folder = folder;
    this.#release = claimFolder(folder);
    try {
      discardPartial(folder); // another run's, interrupted
      this.#writer = new TokenWriter(folder);
    } catch (error) {
      this.#release();
      throw error;
    }
  }

  /** How many there are. */
  get tokens(): Readonly<Record<Split, number>> {
    return this.#writer.tokens;
  }

  append(split: Split, tokens: Uint16Array): void {
    this.#writer.append(split, tokens);
  }

  /** Take the place of the dataset that is there; `close` comes after it, too. */
  finish(meta: PreparedMeta): void {
    try {
      this.#writer.flush();
      this.#writer.close();
      replaceDataset(this.#folder, meta);
    } catch (error) {
      throw explain(error, `cannot write into ${shownPath(this.#folder)}`);
    }
  }

  /** Give the folder back; what hasn't been finished is thrown away. */
  close(): void {
    this.#writer.close();
    discardPartial(this.#folder);
    this.#release();
  }
}

/** Put train.bin, val.bin and meta.json into `directory`, in the place of a dataset that is there: all of them or none. */
export function writeDataset(directory: string, train: Uint16Array, val: Uint16Array, meta: PreparedMeta): void {
  const writer = new DatasetWriter(directory);
  try {
    writer.append("train", train);
    writer.append("val", val);
    writer.finish(meta);
  } finally {
    writer.close();
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
