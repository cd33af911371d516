// Starts train.ts and sample.ts as processes of their own, in a process group of their own: Ctrl-C in the terminal
// reaches the experiment alone, which passes it on once. What they print goes to a file, so that they don't depend on
// the experiment: if that is killed, they go on.

import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import { ROOT } from "../config/script_defaults.ts";

/** Node's arguments that run a TypeScript file, from any working directory. */
const TSX = ["--import", pathToFileURL(createRequire(import.meta.url).resolve("tsx")).href];

export interface Running {
  child: ChildProcess;
  /** How it ended: nothing where it went well, else one line that says why not. */
  ended: Promise<{ problem?: string; signal?: NodeJS.Signals }>;
}

/**
 * Start a script of the repository, without the settings of this process' environment.
 * @param log the file that what it prints is appended to
 */
export function startScript(script: string, args: readonly string[], log: string): Running {
  const file = openSync(log, "a");
  const from = readFileSync(log).length;
  const env = Object.fromEntries(Object.entries(process.env).filter(([key]) => !key.startsWith("NANOGPT_")));
  const child = spawn(process.execPath, [...TSX, join(ROOT, script), ...args], {
    env,
    stdio: ["ignore", file, file],
    detached: process.platform !== "win32", // there it would open a window
    windowsHide: true,
  });
  closeSync(file);
  const ended = new Promise<Awaited<Running["ended"]>>((resolve) => {
    child.on("error", (error) => resolve({ problem: error.message }));
    child.on("close", (code, signal) => {
      if (code === 0) return resolve({});
      if (signal) return resolve({ problem: `ended by ${signal}`, signal });
      resolve({
        problem: lastError(readFileSync(log).subarray(from).toString()) ?? `ended with code ${code}, see ${log}`,
      });
    });
  });
  return { child, ended };
}

/** The line that says what went wrong: a script's own, or the first of a stack. */
function lastError(text: string): string | undefined {
  const own = [...text.matchAll(/^error: (.+)$/gm)].at(-1)?.[1];
  return own ?? [...text.matchAll(/^(?:Uncaught )?(\w*Error\b.*)$/gm)].at(-1)?.[1];
}
