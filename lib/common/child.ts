// Child processes: starting them, collecting their output, and how they ended. The caller decides what happens to one on Ctrl-C or
// when this process ends.

import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";

import { ROOT, TSX } from "./scripts.ts";

export interface Ended {
  code: number | null; // null if a signal ended it
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string; // with a log: everything written there
}

export interface Child {
  process: ChildProcess;
  /** Rejects if it can't be started. */
  ended: Promise<Ended>;
}

export interface ChildOptions {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  /** The file that the child appends its output to, so that it may outlive this process. Without one the output comes in pipes. */
  log?: string;
  pipe?: "stdout"; // with a log: stdout comes in a pipe all the same
  ownGroup?: boolean; // its own process group: the terminal's Ctrl-C reaches this process only, which passes it on
  ipc?: boolean; // a channel, which closes when either process ends
  onPart?(part: string, from: "stdout" | "stderr"): void; // output from a pipe, as it arrives
}

/** Start a program. */
export function startChild(command: string, args: readonly string[], options: ChildOptions = {}): Child {
  const { cwd, env, log, pipe, ownGroup, ipc, onPart } = options;
  const file = log === undefined ? "pipe" : openSync(log, "a");
  const from = log === undefined ? 0 : statSync(log).size;
  const detached = ownGroup === true && process.platform !== "win32"; // there it would open a window
  const stdio = ["ignore", pipe === "stdout" ? "pipe" : file, file, ...(ipc ? ["ipc" as const] : [])] as const;
  const own = { ...(cwd !== undefined && { cwd }), ...(env && { env }) };
  const child = spawn(command, args, { stdio: [...stdio], detached, windowsHide: true, ...own });
  if (typeof file === "number") closeSync(file);
  const ended = endOf(child, onPart);
  if (log === undefined) return { process: child, ended };
  const withLog = (end: Ended) => ({ ...end, stderr: readFileSync(log).subarray(from).toString() });
  return { process: child, ended: ended.then(withLog) };
}

/**
 * Start a script of the repository, such as "train.ts": its settings come from its arguments, not from this process' environment.
 * @param nodeFlags further flags for Node, such as --expose-gc
 */
export function startScript(
  script: string,
  args: readonly string[],
  options: ChildOptions = {},
  nodeFlags: readonly string[] = [],
): Child {
  const isSetting = (key: string) => key.startsWith("NANOGPT_") && key !== "NANOGPT_PYTHON"; // which belongs to the machine
  const env = Object.fromEntries(Object.entries(process.env).filter(([key]) => !isSetting(key)));
  return startChild(process.execPath, [...TSX, ...nodeFlags, join(ROOT, script), ...args], { env, ...options });
}

/** Wait for the end of a process. */
export function endOf(child: ChildProcess, onPart?: ChildOptions["onPart"]): Promise<Ended> {
  const text = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name]?.setEncoding("utf8").on("data", (part: string) => {
      text[name] += part;
      onPart?.(part, name);
    });
  }
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => resolve({ code, signal, ...text }));
  });
}

/**
 * Why it failed, in one line: its own error line, the first line of a stack, or its exit code. Undefined if it succeeded.
 * @param where follows the exit code of a process that printed no error: where to look
 */
export function problemOf({ code, signal, stderr }: Ended, where = ""): string | undefined {
  if (code === 0) return undefined;
  if (signal) return `ended by ${signal}`;
  const thrown = [...stderr.matchAll(/^(?:Uncaught )?(\w*Error\b.*)$/gm)].at(-1)?.[1];
  return errorLine(stderr) ?? thrown ?? `ended with code ${code}${where}`;
}

/** A script's own report of a user's mistake, in one line; undefined if it reported none. */
export function errorLine(text: string): string | undefined {
  return [...text.matchAll(/^error: (.+)$/gm)].at(-1)?.[1];
}

/** The last line of what a script printed. */
export function lastLine(text: string): string {
  return text.trimEnd().split("\n").at(-1) ?? "";
}
