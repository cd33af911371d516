// A dataset that is written over hours: train.bin, val.bin and meta.json appear when all is done. Until then there are
// train.bin.partial, val.bin.partial and meta.json.partial, which says how much of them counts; a run that was killed
// goes on from there. Leaves out two runs into one folder at a time.

import { createHash } from "node:crypto";
import {
  closeSync,
  existsSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";

import * as z from "zod/mini";

import { writeFileAtomic } from "../engine/atomic.ts";
import { explain, UserError } from "../engine/errors.ts";
import { shownPath } from "./dataset.ts";
import { BYTES_PER_TOKEN, tokenBytes } from "./token_file.ts";

export type Split = "train" | "val";
const SPLITS: readonly Split[] = ["train", "val"];

const stateSchema = z.object({
  version: z.literal(1),
  made_of: z.string(), // a checksum: input and settings that decide what is written
  file: z.int(), // the input file to go on with
  at: z.int(), // where in it
  documents: z.int(), // that are complete
  val_documents: z.int(),
  train_tokens: z.int(),
  val_tokens: z.int(),
  complete: z.boolean(),
});
type State = z.infer<typeof stateSchema>;

/** Where in the input a run is. */
export type Place = Pick<State, "file" | "at" | "documents" | "val_documents">;

export class PartialDataset {
  readonly resumed: boolean; // false for one that is at its start
  readonly #folder: string;
  readonly #state: State;
  readonly #files = new Map<Split, number>();

  /** Goes on with what is in `folder`, unless `restart`; a UserError where that was made of something else.
   * @param madeOf all that decides what will be written, as JSON can hold it */
  constructor(folder: string, madeOf: unknown, restart: boolean) {
    this.#folder = folder;
    const made_of = createHash("sha256").update(JSON.stringify(madeOf)).digest("hex");
    if (restart) discard(folder);
    const state = readState(folder);
    if (state && state.made_of !== made_of) {
      const those = "other input or settings (files, their sizes and times, --seed, --val_fraction)";
      throw new UserError(
        `${shownPath(folder)} holds a run that was interrupted, with ${those}; go on with those, or use --restart=true`,
      );
    }
    this.resumed = state !== undefined;
    const none = { file: 0, at: 0, documents: 0, val_documents: 0, train_tokens: 0, val_tokens: 0, complete: false };
    this.#state = state ?? { version: 1, made_of, ...none };
    try {
      mkdirSync(folder, { recursive: true });
      removeTemporary(folder);
      if (this.#state.complete) return; // but for the names of the files
      for (const split of SPLITS) this.#files.set(split, this.#open(split));
    } catch (error) {
      throw explain(error, `cannot write into ${shownPath(folder)}`);
    }
  }

  /** Where to go on, and what is there. */
  get state(): Readonly<State> {
    return this.#state;
  }

  #path(split: Split): string {
    return join(this.#folder, `${split}.bin.partial`);
  }

  /** Open a partial file and cut off what was written after the last `save`. */
  #open(split: Split): number {
    const file = openSync(this.#path(split), this.resumed ? "r+" : "w");
    const bytes = this.#state[`${split}_tokens`] * BYTES_PER_TOKEN;
    const have = statSync(this.#path(split)).size;
    if (have < bytes) {
      closeSync(file);
      throw new UserError(`${shownPath(this.#path(split))} was changed since it was written; use --restart=true`);
    }
    ftruncateSync(file, bytes);
    return file;
  }

  /** Write tokens behind those that are there. */
  append(split: Split, tokens: Uint16Array): void {
    const bytes = tokenBytes(tokens);
    const start = this.#state[`${split}_tokens`] * BYTES_PER_TOKEN;
    try {
      for (let done = 0; done < bytes.length; ) {
        done += writeSync(this.#files.get(split)!, bytes, done, bytes.length - done, start + done);
      }
    } catch (error) {
      throw explain(error, `cannot write ${shownPath(this.#path(split))}`);
    }
    this.#state[`${split}_tokens`] += tokens.length;
  }

  /** From now on a run that is killed goes on at `place`. */
  save(place: Place, complete = false): void {
    Object.assign(this.#state, place, { complete });
    try {
      for (const file of this.#files.values()) fsyncSync(file);
      writeFileAtomic(statePath(this.#folder), JSON.stringify(this.#state));
    } catch (error) {
      throw explain(error, `cannot write into ${shownPath(this.#folder)}`);
    }
  }

  /** Close the files; where nothing was saved, take them away. */
  close(): void {
    for (const file of this.#files.values()) closeSync(file);
    this.#files.clear();
    if (!existsSync(statePath(this.#folder))) discard(this.#folder);
  }

  /** Nothing of this can be used: take it away. */
  discard(): void {
    this.close();
    discard(this.#folder);
  }

  /** All is written: give the files their names. Can be killed at any moment and be called again. */
  finish(place: Place, meta: object): void {
    if (!this.#state.complete) this.save(place, true);
    this.close();
    const path = (name: string) => join(this.#folder, name);
    try {
      rmSync(path("meta.json"), { force: true }); // an older dataset's: it must not stand beside the new tokens
      for (const split of SPLITS) {
        if (existsSync(this.#path(split))) renameSync(this.#path(split), path(`${split}.bin`));
      }
      writeFileAtomic(path("meta.json"), `${JSON.stringify(meta, null, 1)}\n`);
    } catch (error) {
      throw explain(error, `cannot write into ${shownPath(this.#folder)}`);
    }
    rmSync(statePath(this.#folder), { force: true });
  }
}

function statePath(folder: string): string {
  return join(folder, "meta.json.partial");
}

function readState(folder: string): State | undefined {
  if (!existsSync(statePath(folder))) return undefined;
  try {
    return stateSchema.parse(JSON.parse(readFileSync(statePath(folder), "utf8")));
  } catch {
    throw new UserError(`${shownPath(statePath(folder))} can't be read; use --restart=true`);
  }
}

function discard(folder: string): void {
  for (const split of SPLITS) rmSync(join(folder, `${split}.bin.partial`), { force: true });
  rmSync(statePath(folder), { force: true });
}

/** What writeFileAtomic leaves where it is killed. */
function removeTemporary(folder: string): void {
  for (const name of readdirSync(folder)) {
    if (/^meta\.json(\.partial)?\.\d+\.tmp$/.test(name)) rmSync(join(folder, name), { force: true });
  }
}
