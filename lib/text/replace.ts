// How one dataset takes another's place in a folder, so that a kill at any moment leaves all of the old one or all of the
// new one:
//   1. train.bin.partial and val.bin.partial are written and flushed to the disk: the old dataset counts
//   2. meta.json.ready appears, whole: from now on the new one counts, and readers find its files (datasetFile)
//   3. the files get their names, meta.json last
// Whoever prepares next ends what a killed process has begun. Leaves out what the files hold.

import { existsSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";

import { flushDirectory, writeFileAtomic } from "../common/atomic.ts";
import { explain } from "../common/errors.ts";
import { lock } from "../common/lock.ts";
import { READY, shownPath } from "./dataset.ts";

export type Split = "train" | "val";
export const SPLITS: readonly Split[] = ["train", "val"];

/** Where the tokens of a dataset are while they are written. */
export function partialPath(folder: string, split: Split): string {
  return join(folder, `${split}.bin.partial`);
}

/** What an interrupted run says of its own work (partial_dataset.ts). */
export function statePath(folder: string): string {
  return join(folder, "meta.json.partial");
}

/**
 * Take a dataset's folder, which is made if need be: end what a killed process has begun and remove what it left. The function that
 * is returned gives the folder back.
 * @throws UserError where another process has it, or where it can't be written
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

/** What writeFileAtomic leaves where it is killed. */
const TEMPORARY = /^(?:(?:train|val)\.bin|meta\.json(?:\.partial|\.ready)?|input\.txt)\.\d+\.tmp$/;

/** Put the flushed *.bin.partial files, with `meta`, in the place of whatever dataset the folder has. */
export function replaceDataset(folder: string, meta: object): void {
  writeFileAtomic(join(folder, READY), `${JSON.stringify(meta, null, 1)}\n`);
  finishReplacement(folder);
}

/** Give the files of a dataset that counts their names. Can be killed at any moment and be called again. */
function finishReplacement(folder: string): void {
  if (!existsSync(join(folder, READY))) return;
  for (const split of SPLITS) {
    if (existsSync(partialPath(folder, split))) renameSync(partialPath(folder, split), join(folder, `${split}.bin`));
  }
  flushDirectory(folder); // or a power cut could keep the next rename alone
  renameSync(join(folder, READY), join(folder, "meta.json"));
  flushDirectory(folder);
}

/** Throw away a dataset that doesn't count yet. */
export function discardPartial(folder: string): void {
  if (existsSync(join(folder, READY))) return; // it does: the next script gives its files their names
  for (const split of SPLITS) rmSync(partialPath(folder, split), { force: true });
  rmSync(statePath(folder), { force: true });
}
