// One process at a time in a folder: a lock file names the process that uses it. The lock file of a dead process doesn't count. For
// a process of this machine its id tells; for one of another machine or container the file's age does, since a holder touches
// the file as long as it lives.

import { createHash } from "node:crypto";
import {
  closeSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { hostname } from "node:os";
import { dirname, join, resolve } from "node:path";
import { explain, hasCode, UserError } from "./errors.ts";
import { jsonIf, readText } from "./read_file.ts";
import { isRunning } from "./running.ts";
import { z } from "./zod.ts";

export const LOCK_FILE = "lock.json";
const MOST = 1 << 16; // bytes of a lock file
const BEAT = 15_000; // ms between two signs of life
/** ms without a sign of life after which a holder that can't be checked counts as dead. */
export const STALE = 120_000;

const Holder = z.object({
  pid: z.int().check(z.gte(1), z.lte(2 ** 31 - 1)), // others can't be checked
  host: z.string(),
  pids: z.optional(z.nullable(z.string())), // the namespace of the process id: a container has its own
  began: z.nullable(z.string()),
  what: z.string(),
});
type Holder = z.infer<typeof Holder>;

/** Another process is using the folder. */
export class InUseError extends UserError {
  /** The message without the advice: who is using the folder. */
  readonly state: string;
  /** ms since its last sign of life */
  readonly silence: number;

  constructor(state: string, advice: string, silence: number) {
    super(`${state}; ${advice}`, { code: "in_use" });
    this.state = state;
    this.silence = silence;
  }
}

/** A folder locked by this process; call it to release the lock. */
export interface FolderLock {
  (): void;
  /**
   * Make sure that this process still holds it. False if the lock had disappeared, with its folder or alone: both are restored.
   * @throws InUseError if another process has taken it
   */
  renew(): boolean;
}

/**
 * Lock a folder, created if need be, until the returned function is called or the process ends.
 * @param what the work, for the message: "training"
 * @throws InUseError, with the process id, if a live process holds it; UserError if the folder can't be written
 */
export function lock(folder: string, what: string): FolderLock {
  const path = join(folder, LOCK_FILE);
  const { pid } = process;
  const mine: Holder = { pid, host: hostname(), pids: namespaceOf(), began: beginningOf(pid), what };
  const isMine = () => JSON.stringify(readHolder(path)) === JSON.stringify(mine);
  const made = take(folder, path, mine);
  const beat = setInterval(() => touch(path, isMine), BEAT).unref();
  const release = () => {
    clearInterval(beat);
    process.off("exit", release);
    if (!isMine()) return;
    rmSync(path, { force: true });
    if (made) removeEmpty(folder, made);
  };
  process.on("exit", release);
  const renew = () => {
    if (isMine()) return true;
    take(folder, path, mine);
    return false;
  };
  return Object.assign(release, { renew });
}

const PAUSE = 20; // ms between two tries
const TRIES = 250;
const HALF_WRITTEN = 5; // tries after which an unreadable file isn't one that is being written

/** @returns the first of the folders that weren't there */
function take(folder: string, path: string, mine: Holder): string | undefined {
  const made = make(folder);
  for (let attempt = 0; ; attempt++) {
    try {
      writeFileSync(path, textOf(mine), { flag: "wx" }); // fails if there is one
      for (const name of readdirSync(folder)) if (RIGHT.test(name)) rmSync(join(folder, name), { force: true });
      return made;
    } catch (error) {
      if (!hasCode(error, "EEXIST")) throw explain(error, `can't make or write the folder ${folder}`);
    }
    const text = readText(path, { most: MOST });
    if (text === undefined) continue; // it has just been released
    const holder = jsonIf(text, Holder);
    if (attempt >= TRIES || (holder && isAlive(holder, path))) throw inUse(folder, path, holder);
    const isDead = holder !== undefined || attempt >= HALF_WRITTEN;
    if (!isDead || !removeDead(path, text, mine)) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE);
  }
}

const textOf = (holder: Holder) => `${JSON.stringify(holder)}\n`;

/** A file that grants the right to remove one dead lock, named after it. The lock's holder may remove them all. */
const RIGHT = /^lock\.json\.[0-9a-f]{16}\.tmp$/;
const rightTo = (path: string, dead: string) =>
  `${path}.${createHash("sha256").update(dead).digest("hex").slice(0, 16)}.tmp`;

/**
 * Remove the lock of a dead process, if its text is still `dead`. Only one of several processes that find it gets the right to: of
 * two, the slower one would remove a lock that a third has made meanwhile. The right of a process that was killed with it passes
 * to the one that gets the right to remove that process' file.
 * @returns false if a live process has the right
 */
function removeDead(path: string, dead: string, mine: Holder): boolean {
  for (let last = dead; ; ) {
    const right = rightTo(path, last);
    try {
      writeFileSync(right, textOf(mine), { flag: "wx" });
    } catch (error) {
      if (!hasCode(error, "EEXIST")) throw explain(error, `can't take over ${path}`);
      const text = readText(right, { most: MOST });
      const owner = jsonIf(text, Holder);
      if (!owner || isAlive(owner, right)) return false;
      last = text!;
      continue;
    }
    try {
      if (readText(path, { most: MOST }) === dead) rmSync(path, { force: true });
    } finally {
      rmSync(right, { force: true });
    }
    return true;
  }
}

function inUse(folder: string, path: string, holder: Holder | undefined): InUseError {
  const silence = silenceOf(path);
  const age = `last sign of life ${Math.round(silence / 1000)} s ago`;
  if (!holder) return new InUseError(`${folder} is in use: another process, ${age}`, "give another folder", silence);
  const who = `${holder.what} in process ${holder.pid} on ${holder.host}`;
  const wait = isNear(holder)
    ? `wait for it, stop it (kill ${holder.pid}), or give another folder`
    : `wait for it, or give another folder; once it has been silent for ${STALE / 1000} s it counts as gone`;
  return new InUseError(`${folder} is in use: ${who}, ${age}`, wait, silence);
}

/** @returns the first of the folders that weren't there */
function make(folder: string): string | undefined {
  try {
    return mkdirSync(folder, { recursive: true });
  } catch (error) {
    throw explain(error, `can't make or write the folder ${folder}`);
  }
}

/** Leave no empty folder behind if the work produced nothing. */
function removeEmpty(folder: string, first: string): void {
  try {
    for (let path = resolve(folder); path.length >= resolve(first).length; path = dirname(path)) rmdirSync(path);
  } catch (error) {
    if (!hasCode(error, "ENOTEMPTY") && !hasCode(error, "ENOENT")) throw error;
  }
}

/** Undefined if the file is gone or incomplete: still being written, or left by a process killed while writing. */
function readHolder(path: string): Holder | undefined {
  return jsonIf(readText(path, { most: MOST }), Holder);
}

/** Is it a process that this one can check? */
function isNear({ host, pids }: Holder): boolean {
  return host === hostname() && (pids === undefined || pids === namespaceOf());
}

function isAlive(holder: Holder, path: string): boolean {
  if (!isNear(holder)) return silenceOf(path) < STALE;
  const { pid, began } = holder;
  return isRunning(pid) && beginningOf(pid) === began; // else the id was reused by a new process
}

/** A sign of life. It rewrites the first byte, the same in every lock: another process' lock stays intact. */
function touch(path: string, isMine: () => boolean): void {
  let file: number | undefined;
  try {
    if (!isMine()) return;
    file = openSync(path, "r+");
    writeSync(file, "{", 0);
  } catch {
    // it is gone with its folder, or the disk failed for a moment: renew() and the next write report it
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** ms since the holder's last sign of life, by the clock that dates the folder's files: a server's may differ from ours. */
function silenceOf(path: string): number {
  const probe = `${path}.${process.pid}.now`;
  try {
    const file = openSync(probe, "w");
    rmSync(probe, { force: true });
    const now = fstatSync(file).mtimeMs;
    closeSync(file);
    return Math.max(0, now - statSync(path).mtimeMs);
  } catch (error) {
    if (hasCode(error, "ENOENT")) return 0; // it has just been released
    throw explain(error, `can't make or write the folder ${dirname(path)}`);
  }
}

/** When a process started, in clock ticks since boot; null on systems without /proc. */
function beginningOf(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" "); // the name, in brackets, may hold spaces
    return /^[ZX]$/.test(fields[0]!) ? "ended" : (fields[19] ?? null); // a zombie: its parent has yet to wait for it
  } catch {
    return null; // not Linux, or the process has just ended: then kill would have said so
  }
}

/** The namespace of process ids; null where all processes share one. */
function namespaceOf(): string | null {
  try {
    return readlinkSync("/proc/self/ns/pid");
  } catch {
    return null; // not Linux
  }
}
