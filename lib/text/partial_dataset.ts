// A dataset that is written over hours: it is moved into place (replace.ts) when complete. Until then meta.json.partial records how much of
// train.bin.partial and val.bin.partial is valid; after a kill the next run continues from there.

import { createHash } from "node:crypto";
import { existsSync, rmSync } from "node:fs";
import { writeFileAtomic } from "../common/atomic.ts";
import { explain, UserError } from "../common/errors.ts";
import { readJson } from "../common/read_file.ts";
import { z } from "../common/zod.ts";
import { shownPath } from "./dataset.ts";
import { noTally } from "./documents.ts";
import { claimFolder, discardPartial, replaceDataset, type Split, statePath } from "./replace.ts";
import { TokenWriter } from "./token_writer.ts";

const count = z.int().check(z.nonnegative());
const tally = z.object({ line_ends: z.int(), bad: z.int(), first_bad: z.string(), end_of_text: z.int() });

const stateSchema = z.object({
  version: z.literal(1),
  made_of: z.string(), // a checksum: input and settings that decide what is written
  file: count, // the input file to continue with
  at: count, // offset in it
  documents: count, // complete documents
  val_documents: count,
  train_tokens: count,
  val_tokens: count,
  tally: z._default(tally, noTally()),
  complete: z.boolean(),
});
type State = z.infer<typeof stateSchema>;

/** A run's position in the input. */
export type Place = Pick<State, "file" | "at" | "documents" | "val_documents" | "tally">;

export class PartialDataset {
  readonly resumed: boolean; // false at the start
  readonly #folder: string;
  readonly #state: State;
  readonly #release: () => void;
  readonly #writer: TokenWriter | undefined;

  /** Continue the work in `folder`, unless `restart`. @throws UserError if that has other inputs
   * @param madeOf everything that determines the output, as JSON */
  constructor(folder: string, madeOf: unknown, restart: boolean) {
    this.#folder = folder;
    this.#release = claimFolder(folder);
    try {
      const made_of = createHash("sha256").update(JSON.stringify(madeOf)).digest("hex");
      if (restart) discardPartial(folder);
      const state = readState(folder);
      if (state && state.made_of !== made_of) {
        const those = "other input or settings (files, their sizes and times, --seed, --val_fraction)";
        throw new UserError(
          `${shownPath(folder)} holds a run that was interrupted, with ${those}; continue with those, or use --restart=true`,
        );
      }
      this.resumed = state !== undefined;
      const none = { file: 0, at: 0, documents: 0, val_documents: 0, train_tokens: 0, val_tokens: 0 };
      this.#state = state ?? { version: 1, made_of, ...none, tally: noTally(), complete: false };
      if (this.#state.complete) return; // except for renaming the files
      this.#writer = new TokenWriter(folder, state && { train: state.train_tokens, val: state.val_tokens });
    } catch (error) {
      this.#release();
      throw error;
    }
  }

  /** Where to continue, and what is complete. */
  get state(): Readonly<State> {
    return this.#state;
  }

  /** Append tokens. */
  append(split: Split, tokens: Uint16Array): void {
    this.#writer!.append(split, tokens);
    this.#state[`${split}_tokens`] += tokens.length;
  }

  /** Save progress: after a kill the next run continues at `place`. */
  save(place: Place, complete = false): void {
    Object.assign(this.#state, place, { complete });
    try {
      this.#writer?.flush();
      writeFileAtomic(statePath(this.#folder), JSON.stringify(this.#state));
    } catch (error) {
      throw explain(error, `cannot write into ${shownPath(this.#folder)}`);
    }
  }

  /** Close the files; if nothing was saved, remove them. */
  close(): void {
    this.#writer?.close();
    if (!existsSync(statePath(this.#folder))) discardPartial(this.#folder);
    this.#release();
  }

  /** Remove it as unusable. */
  discard(): void {
    this.#writer?.close();
    discardPartial(this.#folder);
    this.#release();
  }

  /** Complete: replace the dataset in the folder. Can be killed at any moment and called again. */
  finish(place: Place, meta: object): void {
    if (!this.#state.complete) this.save(place, true);
    this.#writer?.close();
    try {
      replaceDataset(this.#folder, meta);
      rmSync(statePath(this.#folder), { force: true });
    } catch (error) {
      throw explain(error, `cannot write into ${shownPath(this.#folder)}`);
    } finally {
      this.#release();
    }
  }
}

function readState(folder: string): State | undefined {
  const path = statePath(folder);
  const shown = shownPath(path);
  return readJson(path, stateSchema, (why) => new UserError(`${shown} is damaged (${why}); use --restart=true`), {
    shown,
  });
}
