// What machine this is: how many threads pay, and which tfjs backend runs the plain, uncompiled model.

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import util from "node:util";

import * as tf from "@tensorflow/tfjs";

tf.enableProdMode(); // else tfjs greets on stdout, and checks every kernel's numbers

/** Threads for `--threads=0`: the physical cores that this process may use. Matrix products gain nothing from two
 * threads on one core. */
export function defaultThreads(): number {
  return Math.max(1, Math.min(physicalCores() ?? Number.POSITIVE_INFINITY, availableParallelism()));
}

/** Cores of the whole machine, or undefined where the system doesn't tell. */
function physicalCores(): number | undefined {
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
    return undefined; // no /proc, no sysctl: the caller falls back to what Node says
  }
}

/**
 * Choose the tfjs backend for uncompiled runs: libtensorflow where one of its packages is installed and loads, else
 * tfjs' own CPU backend. Gives a line that says which and why.
 */
export async function useEagerBackend(): Promise<string> {
  // tfjs-node calls two functions that Node deprecates: 22 warns at each's first call, 23 has no isNullOrUndefined
  Object.assign(util, { isArray: Array.isArray, isNullOrUndefined: (value: unknown) => value == null });
  let reason: string | undefined;
  for (const name of ["@tensorflow/tfjs-node-gpu", "@tensorflow/tfjs-node"]) {
    try {
      await import(name);
      if (await tf.setBackend("tensorflow")) return `eager (${name})`;
      reason ??= `${name} has no backend for this machine`;
    } catch (error) {
      if (!isMissing(error, name)) reason ??= `${name} does not load: ${firstLine(error)}`;
    }
  }
  await tf.setBackend("cpu");
  return `eager (tfjs' plain CPU backend: ${reason ?? "no tfjs-node installed"})`;
}

const firstLine = (error: unknown) => String(error instanceof Error ? error.message : error).split("\n")[0]!;
/** Is the package itself not installed? (One that lacks a part of its own names itself on the message's later lines.) */
const isMissing = (error: unknown, name: string) =>
  /^Cannot find (package|module)/.test(firstLine(error)) && firstLine(error).includes(`'${name}'`);
