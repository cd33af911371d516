// Appends a dataset's tokens to train.bin.partial and val.bin.partial, in constant memory. Left out: moving them into place (replace.ts).

import { closeSync, fsyncSync, ftruncateSync, openSync, statSync, writeSync } from "node:fs";

import { explain, UserError } from "../common/errors.ts";
import { shownPath } from "./dataset.ts";
import { partialPath, SPLITS, type Split } from "./replace.ts";
import { BYTES_PER_TOKEN, tokenBytes } from "./token_file.ts";

export class TokenWriter {
  readonly tokens: Record<Split, number>; // written so far
  readonly #folder: string;
  readonly #files = new Map<Split, number>();

  /** @param kept the number of valid tokens in an earlier run's files, the rest is cut off; new files if not given
   * @throws UserError if there are fewer, or the files can't be written */
  constructor(folder: string, kept?: Record<Split, number>) {
    this.#folder = folder;
    this.tokens = { train: 0, val: 0, ...kept };
    try {
      for (const split of SPLITS) this.#files.set(split, this.#open(split, kept !== undefined));
    } catch (error) {
      this.close();
      throw explain(error, `cannot write into ${shownPath(folder)}`);
    }
  }

  #open(split: Split, again: boolean): number {
    const path = partialPath(this.#folder, split);
    const file = openSync(path, again ? "r+" : "w");
    const bytes = this.tokens[split] * BYTES_PER_TOKEN;
    if (statSync(path).size >= bytes) {
      ftruncateSync(file, bytes);
      return file;
    }
    closeSync(file);
    throw new UserError(`${shownPath(path)} was changed since it was written; use --restart=true`);
  }

  /** Append tokens. */
  append(split: Split, tokens: Uint16Array): void {
    const bytes = tokenBytes(tokens);
    const start = this.tokens[split] * BYTES_PER_TOKEN;
    try {
      for (let done = 0; done < bytes.length; ) {
        done += writeSync(this.#files.get(split)!, bytes, done, bytes.length - done, start + done);
      }
    } catch (error) {
      throw explain(error, `cannot write ${shownPath(partialPath(this.#folder, split))}`);
    }
    this.tokens[split] += tokens.length;
  }

  /** Flush everything appended so far to disk. */
  flush(): void {
    for (const file of this.#files.values()) fsyncSync(file);
  }

  close(): void {
    for (const file of this.#files.values()) closeSync(file);
    this.#files.clear();
  }
}
