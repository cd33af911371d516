// One process at a time in a folder: a file there names the one that works in it. The file of a process that is gone is
// no lock. Left out: processes on several machines that share the folder are told apart by the host's name only.

import { linkSync, mkdirSync, readFileSync, renameSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { dirname, join, resolve } from "node:path";

import * as z from "zod/mini";

import { explain, hasCode, UserError } from "./errors.ts";
import { parseJson, readText } from "./read_file.ts";

const LOCK_FILE = "lock.json";

const Holder = z.object({ pid: z.int(), host: z.string(), began: z.nullable(z.string()), what: z.string() });
type Holder = z.infer<typeof Holder>;

/**
 * Lock a folder, which is made if need be, until the function that is returned is called or the process ends.
 * @param what the work, for the message: "training"
 * @throws UserError where a living process has it, with its process id; or where the folder can't be written
 */
export function lock(folder: string, what: string): () => void {
  const path = join(folder, LOCK_FILE);
  const mine: Holder = { pid: process.pid, host: hostname(), began: beginningOf(process.pid), what };
  const made = make(folder);
  for (let attempt = 0; ; attempt++) {
    try {
      writeFileSync(path, `${JSON.stringify(mine)}\n`, { flag: "wx" }); // fails where there is one
      break;
    } catch (error) {
      if (!hasCode(error, "EEXIST")) throw explain(error, `can't make or write the folder ${folder}`);
    }
    const holder = readHolder(path);
    if (attempt > 9 || (holder && isAlive(holder))) {
      const who = holder ? `${holder.what} in process ${holder.pid} on ${holder.host}` : "another process";
      throw new UserError(`${folder} is in use: ${who}; wait for it or stop it, or give another folder`);
    }
    if (holder) removeIf(path, holder);
    else if (attempt < 5)
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20); // ms: it is being written
    else rmSync(path, { force: true }); // its process was killed before it had written it
  }
  const release = () => {
    process.off("exit", release);
    if (readHolder(path)?.pid !== process.pid) return;
    rmSync(path, { force: true });
    if (made) removeEmpty(folder, made);
  };
  process.on("exit", release);
  return release;
}

/** @returns the first of the folders that weren't there */
function make(folder: string): string | undefined {
  try {
    return mkdirSync(folder, { recursive: true });
  } catch (error) {
    throw explain(error, `can't make or write the folder ${folder}`);
  }
}

/** Leave no empty folder behind where nothing came of the work. */
function removeEmpty(folder: string, first: string): void {
  try {
    for (let path = resolve(folder); path.length >= resolve(first).length; path = dirname(path)) rmdirSync(path);
  } catch (error) {
    if (!hasCode(error, "ENOTEMPTY") && !hasCode(error, "ENOENT")) throw error;
  }
}

/** Remove the file of a dead process, but not one that a third process has put in its place since. */
function removeIf(path: string, dead: Holder): void {
  const aside = `${path}.${process.pid}.tmp`;
  try {
    renameSync(path, aside);
    if (JSON.stringify(readHolder(aside)) !== JSON.stringify(dead)) linkSync(aside, path);
  } catch (error) {
    if (!hasCode(error, "ENOENT") && !hasCode(error, "EEXIST")) throw explain(error, `can't take over ${path}`);
  }
  rmSync(aside, { force: true });
}

/** Undefined where the file is gone or only half written: by a process that is doing so, or was killed just then. */
function readHolder(path: string): Holder | undefined {
  const text = readText(path, { most: 1 << 16 });
  if (text === undefined) return undefined;
  try {
    return parseJson(text, Holder, (why) => new UserError(why));
  } catch (error) {
    if (error instanceof UserError) return undefined;
    throw error;
  }
}

function isAlive({ pid, host, began }: Holder): boolean {
  if (host !== hostname()) return true; // can't be known from here
  try {
    process.kill(pid, 0); // asks, does nothing
  } catch (error) {
    if (hasCode(error, "ESRCH")) return false;
    if (!hasCode(error, "EPERM")) throw error; // another user's
  }
  return beginningOf(pid) === began; // else the number has been given to a new process
}

/** When a process began, in clock ticks since the machine did; null where the system doesn't tell in a file. */
function beginningOf(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? null; // the name, in brackets, may hold spaces
  } catch {
    return null; // not Linux, or the process has just ended: then kill would have said so
  }
}
