// A copy of the repository in a temporary folder, for tests that change it: its sources are files there, its packages links.

import { cpSync, mkdirSync, readdirSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";

import { type LaunchOptions, launchCommand, oneProcess, ROOT, type Running, TSX, temporaryFolder } from "./scripts.ts";

const PARTS = [
  "lib",
  "tools",
  "config",
  "examples",
  "train.ts",
  "sample.ts",
  "bench.ts",
  "model.ts",
  "configurator.ts",
  "tests/one_process.ts",
];

export interface HouseCopy {
  folder: string;
  /** Start one of the copy's scripts, in the copy. */
  launch(script: string, args: readonly string[], options?: LaunchOptions): Running;
  /** Run them to their ends in one process: the copy has to stay as it is. */
  run: ReturnType<typeof oneProcess>;
}

/** @param without packages that are missing in it */
export function copyHouse(without: readonly string[] = []): HouseCopy {
  const folder = temporaryFolder();
  for (const part of [...PARTS, "package.json", "tsconfig.json"]) {
    cpSync(join(ROOT, part), join(folder, part), { recursive: true });
  }
  const isData = (path: string) => /[\\/]data([\\/]\w+(\.\w+)?([\\/](prepare|download)\.ts)?)?$/.test(path);
  cpSync(join(ROOT, "data"), join(folder, "data"), { recursive: true, filter: isData });
  for (const name of packages()) {
    if (without.includes(name)) continue;
    const to = join(folder, "node_modules", name);
    mkdirSync(dirname(to), { recursive: true });
    symlinkSync(join(ROOT, "node_modules", name), to, "junction");
  }
  const launch = (script: string, args: readonly string[], options: LaunchOptions = {}) =>
    launchCommand(process.execPath, [...TSX, join(folder, script), ...args], { cwd: folder, ...options });
  return { folder, launch, run: oneProcess(folder) };
}

/** The names of all packages, those of a scope one by one. */
function packages(): string[] {
  const names = readdirSync(join(ROOT, "node_modules")).filter((name) => !name.startsWith("."));
  return names.flatMap((name) =>
    name.startsWith("@") ? readdirSync(join(ROOT, "node_modules", name)).map((inner) => `${name}/${inner}`) : [name],
  );
}
