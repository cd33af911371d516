// Runs scripts one after the other in this process, as the parent says, each time as a new module: a script's start is mostly that
// of the libraries, which are loaded once here. For runs that end by themselves before they set anything up, such as refused ones.

import { join } from "node:path";
import { pathToFileURL } from "node:url";

import { ROOT } from "../config/scripts.ts";

export interface Order {
  script: string; // such as "train.ts"
  args: string[];
  cwd: string;
}

let count = 0;

async function obey({ script, args, cwd }: Order) {
  const path = join(ROOT, script);
  const text = { stdout: "", stderr: "" };
  for (const from of ["stdout", "stderr"] as const) {
    process[from].write = (part: string | Uint8Array) => {
      text[from] += String(part);
      return true;
    };
  }
  process.argv.splice(1, process.argv.length, path, ...args);
  process.exitCode = 0;
  const before = process.listeners("exit");
  process.chdir(cwd);
  try {
    await import(`${pathToFileURL(path)}?${count++}`);
  } catch (error) {
    process.exitCode = 1; // as where nobody catches it
    text.stderr += error instanceof Error ? error.stack : String(error);
  }
  const code = process.exitCode;
  for (const listener of process.listeners("exit")) {
    if (before.includes(listener)) continue;
    listener.call(process, code); // as at the end of a process
    process.off("exit", listener);
  }
  return { ...text, code, signal: null };
}

process.on("message", async (order: Order) => process.send!(await obey(order)));
process.on("disconnect", () => process.exit());
