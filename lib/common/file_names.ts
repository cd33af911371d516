// What files in a run's folder are called: a kind, the run and when.

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

/** OUT_DIR/samples/sample_{date}_{time}.txt: texts that a run's model has written. */
export function samplePath(outDir: string, date?: Date): string {
  return join(outDir, "samples", `sample_${stamp(date)}.txt`);
}

/** OUT_DIR/evaluation/eval_{run}_{dataset}_{date}_{time}.json: how well its model predicts a dataset. */
export function evaluationPath(outDir: string, dataset: string, date?: Date): string {
  return join(outDir, "evaluation", `eval_${runName(outDir)}_${dataset}_${stamp(date)}.json`);
}

/** A name as a part of a file's name: letters and digits of any script, ".", "_" and "-". */
export function fileNamePart(name: string): string {
  return name.replaceAll(/[^\p{L}\p{N}._-]+/gu, "-");
}

/** The folders of a list that commas separate; one whose name has commas, where there is that and not all of the others. */
export function namedFolders(folders: readonly string[]): string[] {
  const whole = folders.join(",");
  return folders.length > 1 && !folders.every((folder) => existsSync(folder)) && existsSync(whole)
    ? [whole]
    : [...folders];
}
