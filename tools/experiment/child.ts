// Starts train.ts and sample.ts as processes of their own, in a process group of their own: Ctrl-C in the terminal
// reaches the experiment alone, which passes it on once. What they print goes to a file, so that they don't depend on
// the experiment: if that is killed, they go on.

import type { ChildProcess } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";

import { endOf, errorLine, startScript } from "../../lib/common/scripts.ts";

export interface Running {
  child: ChildProcess;
  /** How it ended: nothing where it went well, else one line that says why not. */
  ended: Promise<{ problem?: string; signal?: NodeJS.Signals }>;
}

/**
 * Start a script of the repository.
 * @param log the file that what it prints is appended to
 */
export function startLogged(script: string, args: readonly string[], log: string): Running {
  const file = openSync(log, "a");
  const from = readFileSync(log).length;
  const detached = process.platform !== "win32"; // there it would open a window
  const child = startScript(script, args, { stdio: ["ignore", file, file], detached });
  closeSync(file);
  const ended = endOf(child).then(
    ({ code, signal }) => {
      if (code === 0) return {};
      if (signal) return { problem: `ended by ${signal}`, signal };
      const printed = readFileSync(log).subarray(from).toString();
      return { problem: lastError(printed) ?? `ended with code ${code}, see ${log}` };
    },
    (error: Error) => ({ problem: error.message }),
  );
  return { child, ended };
}

/** The line that says what went wrong: a script's own, or the first of a stack. */
function lastError(text: string): string | undefined {
  return errorLine(text) ?? [...text.matchAll(/^(?:Uncaught )?(\w*Error\b.*)$/gm)].at(-1)?.[1];
}
