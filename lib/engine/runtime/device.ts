// The machine: how many threads to use, and which tfjs backend runs the plain, uncompiled model.

import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { hasCode } from "../../common/errors.ts";
import { tf } from "../../common/tf.ts";

/** Threads for `--threads=0`: the physical cores that this process may use. Matrix products gain nothing from two
 * threads per core. */
export function defaultThreads(): number {
  return Math.max(1, Math.min(physicalCores() ?? Number.POSITIVE_INFINITY, availableParallelism()));
}

/** Cores of the whole machine, or undefined if the system doesn't tell. */
export function physicalCores(): number | undefined {
  try {
    if (process.platform === "darwin") {
      return Number(execFileSync("sysctl", ["-n", "hw.physicalcpu"], { encoding: "utf8" })) || undefined;
    }
    if (process.platform !== "linux") return undefined;
    const cores = new Set<string>();
    for (const processor of readFileSync("/proc/cpuinfo", "utf8").split("\n\n")) {
      const core = /^core id\s*:\s*(\d+)/m.exec(processor)?.[1];
      if (core !== undefined) cores.add(`${/^physical id\s*:\s*(\d+)/m.exec(processor)?.[1]}/${core}`);
    }
    return cores.size || undefined;
  } catch {
    return undefined; // no /proc, no sysctl: the caller falls back to Node's number
  }
}

/**
 * Choose the tfjs backend for uncompiled runs: libtensorflow if one of its packages is installed, else tfjs' own
 * CPU backend. @returns a line with the choice and its reason
 */
export async function useEagerBackend(): Promise<string> {
  let why = "no tfjs-node installed";
  for (const name of ["@tensorflow/tfjs-node-gpu", "@tensorflow/tfjs-node"]) {
    const state = addonOf(name);
    if (state === "not built") why = `${name} is not built; build it with ${buildCommand(name)}`;
    if (state !== "built") continue;
    try {
      await import(name);
      if (await tf.setBackend("tensorflow")) return `eager (${name})`;
    } catch (error) {
      return await plainBackend(`${name} does not load: ${firstLine(error)}`);
    }
  }
  return await plainBackend(why);
}

/** The command that fetches libtensorflow and builds the package's addon; .npmrc keeps npm from doing so by itself. */
const buildCommand = (name: string) => `npm rebuild ${name} --ignore-scripts=false`;

/** Is a package of tfjs-node installed with its addon? Importing it without takes 3 s and fails. */
function addonOf(name: string): "missing" | "not built" | "built" {
  try {
    const library = join(dirname(createRequire(import.meta.url).resolve(`${name}/package.json`)), "lib");
    const builds = existsSync(library) ? readdirSync(library) : [];
    return builds.some((build) => existsSync(join(library, build, "tfjs_binding.node"))) ? "built" : "not built";
  } catch (error) {
    if (hasCode(error, "MODULE_NOT_FOUND") || hasCode(error, "ERR_PACKAGE_PATH_NOT_EXPORTED")) return "missing";
    throw error;
  }
}

async function plainBackend(reason: string): Promise<string> {
  await tf.setBackend("cpu");
  return `eager (tfjs' plain CPU backend: ${reason})`;
}

const firstLine = (error: unknown) => String(error instanceof Error ? error.message : error).split("\n")[0];
