// The repository's scripts as processes: how they are started, how they end, and what a person would type. What becomes of
// a process meanwhile (logs, Ctrl-C, the end of whoever started it) is the starter's affair.

import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

/** The repository. */
export const ROOT = fileURLToPath(new URL("../..", import.meta.url)).replace(/[\\/]$/, "");

/** Node's arguments that run a TypeScript file, from any working directory. */
export const TSX = ["--import", pathToFileURL(createRequire(import.meta.url).resolve("tsx")).href];

export interface Ended {
  code: number | null; // null where a signal ended it
  signal: NodeJS.Signals | null;
  stdout: string; // of a pipe; else empty
  stderr: string;
}

/**
 * Start a script of the repository, such as "train.ts": what it is told are its arguments, not this process' environment.
 * @param nodeFlags further flags for Node, such as --expose-gc
 */
export function startScript(
  script: string,
  args: readonly string[],
  options: SpawnOptions,
  nodeFlags: readonly string[] = [],
): ChildProcess {
  const isSetting = (key: string) => key.startsWith("NANOGPT_") && key !== "NANOGPT_PYTHON"; // which is of the machine
  const env = Object.fromEntries(Object.entries(process.env).filter(([key]) => !isSetting(key)));
  const all = [...TSX, ...nodeFlags, join(ROOT, script), ...args];
  return spawn(process.execPath, all, { env, windowsHide: true, ...options });
}

/** Wait for the end of a process. `onPart` is told what comes through a pipe, as it comes. */
export function endOf(child: ChildProcess, onPart?: (part: string, from: "stdout" | "stderr") => void): Promise<Ended> {
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

/** What a script said was the user's mistake, in one line; undefined where it said nothing. */
export function errorLine(text: string): string | undefined {
  return [...text.matchAll(/^error: (.+)$/gm)].at(-1)?.[1];
}

/** The last line of what a script printed. */
export function lastLine(text: string): string {
  return text.trimEnd().split("\n").at(-1) ?? "";
}

/** A script's command as a person would type it. */
export function commandOf(script: string, args: readonly string[]): string {
  return shellWords(["npx", "tsx", script, ...args]);
}

/** Words to be pasted into a shell. */
export function shellWords(words: readonly string[]): string {
  const quoted = (word: string) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
  return words.map(quoted).join(" ");
}
