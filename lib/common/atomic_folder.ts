// Folders whose files change all together or not at all: the new files are written into a folder beside it, flushed, and then
// moved into place. The next process finishes or removes what a killed one has left. Left out: nested folders.

import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
} from "node:fs";
import { dirname, isAbsolute, join, relative, resolve } from "node:path";

import { flushDirectory } from "./atomic.ts";
import { hasCode } from "./errors.ts";
import { exchange } from "./exchange.ts";
import { lock } from "./lock.ts";

const [NEW, READY, OLD] = ["new", "ready", "old"]; // being written; complete; what was there before

export interface FolderKind {
  what: string; // the work, for the message that the folder is in use
  /** The names of an earlier version's files, given those of all that is there: they go. Everything else stays. */
  earlier(folder: string): ReadonlySet<string>;
  /** The files without which readers see nothing there; the last one holds what `earlier` knows. */
  heads: readonly string[];
}

/**
 * Replace the contents of `folder`, created if need be, by the files that `write` makes in the directory it is given. A process
 * killed at any moment leaves the folder either as it was or complete and new. Two exceptions need `finishFolder` afterwards: where
 * the system can't exchange folders, a kill may fall between two renames; and a folder with other files, a mounted one and the
 * working directory stay in place, so their files move one by one.
 * @throws UserError where another process is doing the same; what `write` throws
 */
export async function writeFolderAtomic(
  folder: string,
  kind: FolderKind,
  write: (directory: string) => void | Promise<void>,
): Promise<void> {
  finishFolder(folder, kind);
  const target = placeOf(folder);
  const [beside, inside] = workFolders(target);
  await withWorkFolder(isMovable(target, kind) ? beside : inside, kind, async (work) => {
    const directory = join(work, NEW);
    mkdirSync(directory);
    await write(directory);
    for (const name of readdirSync(directory)) flushFile(join(directory, name));
    flushDirectory(directory);
    if (existsSync(target) && isMovable(target, kind) && exchange(directory, target)) {
      flushDirectory(dirname(target)); // the old files are in the work folder now, and go with it
    } else {
      renameSync(directory, join(work, READY));
      flushDirectory(work);
      putInPlace(work, target, kind);
    }
  });
}

/**
 * Finish what a killed process had begun: complete files are moved into place, incomplete ones removed.
 * @throws UserError if that process is still running
 */
export function finishFolder(folder: string, kind: FolderKind): void {
  const target = placeOf(folder);
  for (const work of workFolders(target)) {
    if (!existsSync(work)) continue;
    const release = lock(work, kind.what);
    try {
      if (existsSync(join(work, READY))) putInPlace(work, target, kind);
      clear(work);
    } finally {
      release();
    }
    removeFolder(work);
  }
}

/** A folder's real path, links resolved; for a new one the path where it will be. */
function placeOf(folder: string): string {
  return existsSync(folder) ? realpathSync(folder) : resolve(folder);
}

function workFolders(target: string): [beside: string, inside: string] {
  return [`${target}.unfinished`, join(target, ".unfinished")];
}

/** Can the folder be moved away to let another one take its place? */
function isMovable(target: string, kind: FolderKind): boolean {
  if (!existsSync(target)) return true;
  const earlier = kind.earlier(target);
  const entries = readdirSync(target, { withFileTypes: true });
  if (entries.some((entry) => !entry.isFile() || !earlier.has(entry.name))) return false;
  const toHere = relative(target, process.cwd());
  if (!toHere.startsWith("..") && !isAbsolute(toHere)) return false; // a shell would be left in the old one
  const parent = dirname(target);
  return statSync(target).dev === statSync(parent).dev && isWritable(parent);
}

function isWritable(folder: string): boolean {
  try {
    accessSync(folder, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** Create and lock a folder for unfinished work, and remove it afterwards, unless its files are complete. */
async function withWorkFolder(work: string, { what }: FolderKind, body: (work: string) => Promise<void>) {
  const discard = () => rmSync(join(work, NEW), { recursive: true, force: true });
  process.once("exit", discard); // before the lock's own listener
  const release = lock(work, what);
  let whole = false;
  try {
    await body(work);
    whole = true;
  } finally {
    process.off("exit", discard);
    if (whole) clear(work);
    else discard();
    release();
  }
  removeFolder(work);
}

function clear(work: string): void {
  for (const name of [NEW, READY, OLD]) rmSync(join(work, name), { recursive: true, force: true });
}

/** Remove a work folder, if it is there and another process hasn't begun in it. */
function removeFolder(work: string): void {
  try {
    rmdirSync(work);
  } catch (error) {
    if (!hasCode(error, "ENOENT") && !hasCode(error, "ENOTEMPTY")) throw error;
  }
}

/** Can be killed at any moment and be called again. */
function putInPlace(work: string, target: string, kind: FolderKind): void {
  const ready = join(work, READY);
  if (!existsSync(target)) renameSync(ready, target);
  else if (work === workFolders(target)[0] && isMovable(target, kind)) {
    rmSync(join(work, OLD), { recursive: true, force: true });
    renameSync(target, join(work, OLD));
    renameSync(ready, target);
  } else moveFiles(ready, target, kind);
  flushDirectory(dirname(target));
}

/** The files one by one: those that readers look for are the first to go and the last to come. */
function moveFiles(ready: string, target: string, { earlier, heads }: FolderKind): void {
  const [known, coming] = [earlier(target), earlier(ready)]; // the last of the heads is in `ready` until the end
  const left = readdirSync(ready);
  const outdated = readdirSync(target).filter((name) => known.has(name) && !coming.has(name));
  const remove = (name: string) => rmSync(join(target, name), { force: true });
  const move = (name: string) => renameSync(join(ready, name), join(target, name));
  for (const name of heads.slice(0, -1)) if (left.includes(name) || outdated.includes(name)) remove(name);
  for (const name of left) if (!heads.includes(name)) move(name);
  for (const name of outdated) remove(name);
  flushDirectory(target);
  for (const name of heads) if (left.includes(name)) move(name);
  flushDirectory(target);
}

function flushFile(path: string): void {
  const file = openSync(path, "r+"); // Windows flushes nothing that is open for reading alone
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}
