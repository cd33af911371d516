// Runs a script in this process, as a new module each time: its start is mostly that of the libraries, which are loaded
// once. For runs that end by themselves; one that sets something up keeps it (sessions of ONNX Runtime) until the process ends.

import { join } from "node:path";
import { pathToFileURL } from "node:url";

import type { Ended } from "../../lib/common/child.ts";
import { ROOT } from "../../lib/common/scripts.ts";

let count = 0;

/**
 * Run a script such as "train.ts" to its end.
 * @param cwd the working directory meanwhile
 * @returns what it printed, and the code that its process would have ended with
 */
export async function runHere(script: string, args: readonly string[], cwd: string): Promise<Ended> {
  const path = join(ROOT, script);
  const before = process.cwd();
  process.argv.splice(1, process.argv.length, path, ...args);
  process.chdir(cwd);
  try {
    return await captured(() => import(`${pathToFileURL(path)}?${count++}`));
  } finally {
    process.chdir(before);
  }
}

/** What is printed meanwhile, and how a script with this body would end. */
export async function captured(body: () => Promise<unknown>): Promise<Ended> {
  const text = { stdout: "", stderr: "" };
  const writers = { stdout: process.stdout.write, stderr: process.stderr.write };
  for (const from of ["stdout", "stderr"] as const) {
    process[from].write = (part: string | Uint8Array) => {
      text[from] += typeof part === "string" ? part : Buffer.from(part).toString();
      return true;
    };
  }
  const before = process.listeners("exit");
  process.exitCode = 0;
  try {
    await body();
  } catch (error) {
    process.exitCode = 1; // as for an uncaught error
    text.stderr += error instanceof Error ? error.stack : String(error);
  }
  const code = Number(process.exitCode);
  for (const listener of process.listeners("exit")) {
    if (before.includes(listener)) continue;
    listener.call(process, code); // as at the end of a process
    process.off("exit", listener);
  }
  process.exitCode = 0;
  Object.assign(process.stdout, { write: writers.stdout });
  Object.assign(process.stderr, { write: writers.stderr });
  return { ...text, code, signal: null };
}
