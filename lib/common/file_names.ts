// Names of files in a run's folder: kind, run and time.

import { existsSync } from "node:fs";
import { basename, join, resolve } from "node:path";

/** 20261123_174818: date and time in UTC, so that names sort as the files came. */
export function stamp(date = new Date()): string {
  return date.toISOString().replace(/\..*$/, "").replaceAll(/[-:]/g, "").replace("T", "_");
}

/** A run's name: the last part of its folder. */
export function runName(outDir: string): string {
  return basename(resolve(outDir));
}

/** OUT_DIR/samples/sample_{date}_{time}.txt: a run's samples. */
export function samplePath(outDir: string, date?: Date): string {
  return join(outDir, "samples", `sample_${stamp(date)}.txt`);
}

/** OUT_DIR/evaluation/eval_{run}_{dataset}_{date}_{time}.json: an evaluation of its model on a dataset. */
export function evaluationPath(outDir: string, dataset: string, date?: Date): string {
  return join(outDir, "evaluation", `eval_${runName(outDir)}_${dataset}_${stamp(date)}.json`);
}

/** A name as part of a file name: letters and digits of any script, ".", "_" and "-". */
export function fileNamePart(name: string): string {
  return name.replaceAll(/[^\p{L}\p{N}._-]+/gu, "-");
}

/** The folders of a comma-separated list; a single one with commas in its name, if that exists and not all of the others do. */
export function namedFolders(folders: readonly string[]): string[] {
  const whole = folders.join(",");
  return folders.length > 1 && !folders.every((folder) => existsSync(folder)) && existsSync(whole)
    ? [whole]
    : [...folders];
}
