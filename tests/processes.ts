// Which test files share a process. A process starts for a second, most of it for the libraries, and so those of the unit suite run
// some at a time, one after the other; what starts programs of its own, or measures itself, has a process to itself.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { pathToFileURL } from "node:url";

import { ROOT } from "../lib/common/scripts.ts";
import { suiteOf } from "./select.ts";

/** Node's arguments for the tests' processes. */
export const LOADER = ["--import", new URL("loader.mjs", import.meta.url).href];

const TOGETHER = 12; // files in a process

// what takes longest begins first, so that no process is left alone at the end; in the order of the time each takes
export const LONGEST = [
  "tests/tools/pipeline.test.ts",
  "tests/lib/bench/bench.test.ts",
  "test_integration.ts",
  "tests/tools/experiment.test.ts",
  "tests/train.test.ts",
  "tests/kill.test.ts",
  "tests/train_half.test.ts",
  "tests/train_watched.test.ts",
  "tests/combinations.test.ts",
  "tests/interrupts.test.ts",
];

export interface Processes {
  entries: string[]; // files that are each run in a process: test files, and temporary ones that import some
  shared: string[]; // test files that are imported
}

/** Temporary files are removed when this process ends. */
export function shareProcesses(files: readonly string[]): Processes {
  const units = files.filter((file) => suiteOf(file) === "unit" && placeOf(file) === LONGEST.length);
  if (units.length < 2) return { entries: longestFirst(files), shared: [] };
  const folder = mkdtempSync(join(tmpdir(), "nanogpt-tests-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  const count = Math.ceil(units.length / TOGETHER);
  const entries = Array.from({ length: count }, (_, i) => {
    const path = join(folder, `unit-${i + 1}-of-${count}.test.mjs`);
    writeFileSync(path, importing(units.filter((_, unit) => unit % count === i)));
    return path;
  });
  return { entries: [...longestFirst(files.filter((file) => !units.includes(file))), ...entries], shared: units };
}

function longestFirst(files: readonly string[]): string[] {
  return [...files].sort((a, b) => placeOf(a) - placeOf(b));
}

/** Among the longest; their number for all others. */
function placeOf(file: string): number {
  const index = LONGEST.indexOf(relative(ROOT, file).replaceAll("\\", "/"));
  return index < 0 ? LONGEST.length : index;
}

/** A module that imports test files; one that can't be is a test that fails. */
function importing(files: readonly string[]): string {
  const lines = files.map((file) => {
    const name = JSON.stringify(relative("", file));
    return `await import(${JSON.stringify(pathToFileURL(file).href)}).catch((error) => test(${name}, () => { throw error; }));`;
  });
  return `import test from "node:test";\n${lines.join("\n")}\n`;
}
