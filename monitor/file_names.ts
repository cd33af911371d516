// What files in a run's folder are called: a kind, the run and when.

import { basename, resolve } from "node:path";

/** 20261123_174818: date and time in UTC, so that names sort as the files came. */
export function stamp(date = new Date()): string {
  return date.toISOString().replace(/\..*$/, "").replaceAll(/[-:]/g, "").replace("T", "_");
}

/** A run's name: the last part of its folder. */
export function runName(outDir: string): string {
  return basename(resolve(outDir));
}
