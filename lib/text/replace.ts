// Replaces a dataset in a folder by another, so that a kill at any moment leaves the whole old or the whole new one:
//   1. train.bin.partial and val.bin.partial are written and flushed to the disk: the old dataset is valid
//   2. meta.json.ready appears, complete: from here on the new one is valid, and readers find its files (datasetFile)
//   3. the files get their names, meta.json last
// The next prepare script finishes what a killed one has begun. Left out: the contents of the files.

import { existsSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";

import { flushDirectory, writeFileAtomic } from "../common/atomic.ts";
import { explain } from "../common/errors.ts";
import { lock } from "../common/lock.ts";
import { READY, shownPath } from "./dataset.ts";

export type Split = "train" | "val";
export const SPLITS: readonly Split[] = ["train", "val"];

/** The path of a dataset's tokens while they are written. */
export function partialPath(folder: string, split: Split): string {
  return join(folder, `${split}.bin.partial`);
}

/** The progress of an interrupted run (partial_dataset.ts). */
export function statePath(folder: string): string {
  return join(folder, "meta.json.partial");
}

/**
 * Lock a dataset's folder, created if need be; finish what a killed process has begun and remove its leftovers. The returned function
 * releases the lock.
 * @throws UserError if another process holds it, or it can't be written
 */
export function claimFolder(folder: string): () => void {
  const release = lock(folder, "preparing a dataset");
  try {
    finishReplacement(folder);
    for (const name of readdirSync(folder)) if (TEMPORARY.test(name)) rmSync(join(folder, name), { force: true });
  } catch (error) {
    release();
    throw explain(error, `cannot write into ${shownPath(folder)}`);
  }
  return release;
}

/** What writeFileAtomic leaves if it is killed. */
const TEMPORARY = /^(?:(?:train|val)\.bin|meta\.json(?:\.partial|\.ready)?|input\.txt)\.\d+\.tmp$/;

/** Replace the folder's dataset by the flushed *.bin.partial files, with `meta`. */
export function replaceDataset(folder: string, meta: object): void {
  writeFileAtomic(join(folder, READY), `${JSON.stringify(meta, null, 1)}\n`);
  finishReplacement(folder);
}

/** Rename the files of the valid dataset. Can be killed at any moment and called again. */
function finishReplacement(folder: string): void {
  if (!existsSync(join(folder, READY))) return;
  for (const split of SPLITS) {
    if (existsSync(partialPath(folder, split))) renameSync(partialPath(folder, split), join(folder, `${split}.bin`));
  }
  flushDirectory(folder); // or a power cut could keep the next rename alone
  renameSync(join(folder, READY), join(folder, "meta.json"));
  flushDirectory(folder);
}

/** Remove a dataset that isn't valid yet. */
export function discardPartial(folder: string): void {
  if (existsSync(join(folder, READY))) return; // it is valid: the next script renames its files
  for (const split of SPLITS) rmSync(partialPath(folder, split), { force: true });
  rmSync(statePath(folder), { force: true });
}
