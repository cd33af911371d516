// The contenders of a comparison with programs in Python: what must be there, and a run of one in a process of its own.

import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { UserError } from "../../lib/common/errors.ts";
import { lastLine, ROOT } from "../../lib/common/scripts.ts";

/** Refuse what is no checkout of nanoGPT. */
export function requireNanoGPT(path: string): void {
  const source = "a checkout of nanoGPT; run: git clone https://github.com/karpathy/nanoGPT";
  if (!path) throw new UserError(`--nanogpt=PATH is missing, ${source}`);
  if (!existsSync(join(path, "model.py")))
    throw new UserError(`no model.py in ${path}; --nanogpt wants a checkout of karpathy/nanoGPT`);
}

/** Ask for PyTorch before anything is timed; finding it takes no import. */
export function requireTorch(python: string): void {
  const search = "import importlib.util, sys; sys.exit(importlib.util.find_spec('torch') is None)";
  const child = spawnSync(python, ["-c", search]);
  if (child.error) throw new UserError(`--python=${python} does not start (${child.error.message})`);
  if (child.status !== 0) throw new UserError(`no PyTorch in ${python}; run: ${python} -m pip install torch numpy`);
}

/** A program as it is started from another folder: its path whole, or its name as it is, to be found in PATH. */
export function pathOf(program: string): string {
  return program.includes("/") ? resolve(program) : program;
}

/** Run a contender in the repository to its end; the last line that it printed. */
export function runContender(name: string, command: string, args: readonly string[], env = process.env): string {
  const child = spawnSync(command, args, { cwd: ROOT, env, encoding: "utf8", maxBuffer: 2 ** 26 });
  if (child.error) throw new UserError(`${name}: can't start ${command} (${child.error.message})`);
  if (child.status !== 0) {
    if (process.env.DEBUG) console.error(child.stderr);
    const how = child.signal ? `was killed by ${child.signal}` : `ended with code ${child.status}`;
    throw new UserError(`${name} ${how}: ${lastLine(child.stderr)} (DEBUG=1 shows all it wrote)`);
  }
  return lastLine(child.stdout);
}
