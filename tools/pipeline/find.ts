// Finds the pipeline for --resume without a name: the unfinished one in a folder here.

import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";

import { UserError } from "../../lib/common/errors.ts";
import { readState, STAGES } from "./state.ts";

/**
 * The folder of the one unfinished pipeline here, or of the only one, if it has finished.
 * @param here the folder to search
 * @returns a path relative to it
 * @throws UserError if there is none, or several
 */
export function findPipeline(here = "."): string {
  const all = readdirSync(here).filter((name) => existsSync(join(here, name, "pipeline.json")));
  const unfinished = all.filter((name) => !hasFinished(join(here, name)));
  const [found, ...others] = unfinished.length > 0 ? unfinished : all;
  if (found === undefined) throw new UserError("no pipeline in the folders here; start one with --input_file=my.txt");
  if (others.length === 0) return found;
  const how = unfinished.length > 0 ? "unfinished pipelines" : "pipelines, and all have finished";
  throw new UserError(`there are several ${how}: ${[found, ...others].join(", ")}; name one with --out_dir=${found}`);
}

function hasFinished(outDir: string): boolean {
  const stages = readState(outDir)?.stages;
  return STAGES.every((name) => stages?.[name]?.state === "done");
}
