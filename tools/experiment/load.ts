// Finds runs on disk for the comparison and the report: those of an experiment, of one of its trials, or a run of
// train.ts by itself.

import { existsSync, readdirSync } from "node:fs";
import { basename, dirname, join, relative, resolve } from "node:path";
import { UserError } from "../../lib/common/errors.ts";
import { runName } from "../../lib/common/file_names.ts";
import { didYouMean } from "../../lib/common/nearest.ts";
import { statOf } from "../../lib/common/read_file.ts";
import type { Settings } from "../../lib/settings/rules.ts";
import { shownPath } from "../../lib/text/dataset.ts";
import type { ComparedRun, Group } from "./compare.ts";
import type { ExperimentConfig, Trial } from "./experiment_config.ts";
import { finalMetrics, historyOf, type Results, readResults, readRun } from "./results.ts";
import {
  type Environment,
  EXPERIMENT_FILE,
  readConfig,
  readEnvironment,
  readExperiment,
  runFolder,
} from "./run_folder.ts";

/** The default folder of experiments. */
export const EXPERIMENTS = "out-experiments";

export type RunState = "finished" | "failed" | "begun" | "waiting";

/** A run of an experiment, whether it exists or not. */
export interface FoundRun {
  trial: Trial;
  seed: number;
  folder: string;
  state: RunState;
  results: Results | undefined;
  environment: Environment | undefined;
  compared: ComparedRun | undefined; // of a finished one
}

export interface FoundExperiment {
  folder: string;
  experiment: ExperimentConfig;
  runs: FoundRun[];
  groups: Group[]; // the finished runs of each trial; trials without any are left out
}

/**
 * An experiment and its progress.
 * @throws UserError if the folder has none
 */
export function loadExperiment(folder: string): FoundExperiment {
  const experiment = readExperiment(folder);
  const trials = experiment.trials();
  const runs = trials.flatMap((trial) =>
    experiment.settings.seeds.map((seed): FoundRun => {
      const place = runFolder(folder, trial, seed);
      const results = readResults(place);
      const state = results?.state ?? (readConfig(place) ? "begun" : "waiting");
      const environment = readEnvironment(place);
      const compared = results?.state === "finished" ? comparedRun(trial.name, seed, place, results) : undefined;
      return { trial, seed, folder: place, state, results, environment, compared };
    }),
  );
  const groups = trials.map(({ name, slug }): Group => {
    const found = runs.flatMap(({ trial, compared }) => (trial.slug === slug && compared ? [compared] : []));
    return { name, runs: found };
  });
  return { folder, experiment, runs, groups: groups.filter((group) => group.runs.length > 0) };
}

function comparedRun(name: string, seed: number, folder: string, results: Results): ComparedRun {
  const config = readConfig(folder);
  if (!config) throw new UserError(`${folder} has results but no config.json; put it back, or remove the folder`);
  return { name: `${name}, seed ${seed}`, folder, seed, config, metrics: results.metrics, history: historyOf(results) };
}

/** Every folder below `root` (or it itself) that holds an experiment. */
export function findExperiments(root: string): string[] {
  if (existsSync(join(root, EXPERIMENT_FILE))) return [root];
  if (!statOf(root)?.isDirectory()) return [];
  const folders = readdirSync(root, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return folders.map(({ name }) => join(root, name)).filter((folder) => existsSync(join(folder, EXPERIMENT_FILE)));
}

/** The folder for a word of the command line: a path, or the name of something below out-experiments/. */
export function folderOf(word: string): string {
  const isFolder = (path: string) => statOf(path)?.isDirectory();
  if (isFolder(word)) return word;
  const inside = join(EXPERIMENTS, word);
  const escapes = word.split(/[/\\]/).includes("..");
  if (!escapes && isFolder(inside)) return inside;
  const near = didYouMean(
    word,
    findExperiments(EXPERIMENTS).map((folder) => relative(EXPERIMENTS, folder)),
  );
  const help = near ?? "npx tsx tools/experiment.ts list shows what there is";
  throw new UserError(`no folder ${word}${escapes ? "" : ` and no ${inside}`}; ${help}`);
}

/**
 * The groups that a folder holds: all trials of an experiment, a trial with its seeds, or a run.
 * @throws UserError if it holds no finished run
 */
export function loadGroups(folder: string): Group[] {
  const none = (what: string) => new UserError(`${shownPath(folder)}: ${what}`);
  if (existsSync(join(folder, EXPERIMENT_FILE))) {
    const { groups } = loadExperiment(folder);
    if (groups.length === 0) throw none("no run of this experiment is finished yet");
    return groups;
  }
  const above = dirname(resolve(folder));
  if (existsSync(join(above, EXPERIMENT_FILE))) {
    const { groups, runs } = loadExperiment(above);
    const trial = runs.find((run) => run.trial.slug === basename(resolve(folder)))?.trial;
    const group = groups.find(({ name }) => name === trial?.name);
    if (trial && !group) throw none("no run of this trial is finished yet");
    if (group) return [group];
  }
  const told = readRun(folder);
  if (!told) throw none("neither an experiment, nor a trial of one, nor a run (no metrics.jsonl there)");
  const name = runName(folder);
  const config = told.history.start!.config as Settings;
  const metrics = readResults(folder)?.metrics ?? finalMetrics(told);
  const run = { name, folder, seed: Number(config.seed), config, metrics, history: told.history };
  return [{ name, runs: [run] }];
}
