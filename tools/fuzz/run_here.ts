// Runs a script in this process, as a new module each time: startup is mostly the libraries, which are loaded once. For runs that end by
// themselves; their resources (ONNX Runtime's sessions) live until the process ends.

import { join } from "node:path";
import { pathToFileURL } from "node:url";

import type { Ended } from "../../lib/common/child.ts";
import { ROOT } from "../../lib/common/scripts.ts";

let count = 0;

/**
 * Run a script such as "train.ts" to its end.
 * @param cwd the working directory meanwhile
 * @returns its output, and the exit code that its process would have had
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

/** The output meanwhile, and the exit code of a script with this body. */
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
