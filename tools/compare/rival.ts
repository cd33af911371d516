// The contenders of a comparison with programs in Python: their requirements, and running one in a separate process.

import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { lastLine, startChild } from "../../lib/common/child.ts";
import { UserError } from "../../lib/common/errors.ts";
import { ROOT } from "../../lib/common/scripts.ts";

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
export async function runContender(
  name: string,
  command: string,
  args: readonly string[],
  env = process.env,
): Promise<string> {
  const end = await startChild(command, args, { cwd: ROOT, env }).ended.catch((error: Error) => {
    throw new UserError(`${name}: can't start ${command} (${error.message})`);
  });
  if (end.code === 0) return lastLine(end.stdout);
  if (process.env.DEBUG) console.error(end.stderr);
  const how = end.signal ? `was killed by ${end.signal}` : `ended with code ${end.code}`;
  throw new UserError(`${name} ${how}: ${lastLine(end.stderr)} (DEBUG=1 shows all it wrote)`);
}
