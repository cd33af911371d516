// The folders of an experiment, and what is where:
//
//   out-experiments/heads/experiment.json                  what the experiment is, complete
//   out-experiments/heads/n_head=2/seed-1337/config.json   every setting of the run: train.ts takes it as a config file
//                                            /environment.json, results.json, output.log, and all that train.ts leaves

import { existsSync, mkdirSync, readdirSync } from "node:fs";
import { loadavg } from "node:os";
import { join } from "node:path";
import { machineOf, versions } from "../../lib/bench/report.ts";
import { writeJson } from "../../lib/common/atomic.ts";
import { UserError } from "../../lib/common/errors.ts";
import { readJson } from "../../lib/common/read_file.ts";
import { z } from "../../lib/common/zod.ts";
import { currentSettings } from "../../lib/settings/renamed.ts";
import type { Settings } from "../../lib/settings/rules.ts";
import { shownPath } from "../../lib/text/dataset.ts";
import { differencesOf, ExperimentConfig, type ExperimentSettings, type Trial } from "./experiment_config.ts";

export const EXPERIMENT_FILE = "experiment.json";
export const CONFIG_FILE = "config.json";
const ENVIRONMENT_FILE = "environment.json";
export const OUTPUT_FILE = "output.log";

/** Settings that may change from one session to the next: where a run is, and what doesn't change its numbers. */
const FREE = ["out_dir", "threads", "log_interval"];

/** A trial with a seed. */
export interface PlannedRun {
  trial: Trial;
  seed: number;
  folder: string;
  config: Settings; // complete, with seed and out_dir
  label: string; // "n_head=2, seed 1337"
}

/** All runs of an experiment: every trial with the first seed, then with the next, so that a first look comes early. */
export async function planRuns(experiment: ExperimentConfig, out: string): Promise<PlannedRun[]> {
  const trials = await experiment.validate();
  return experiment.settings.seeds.flatMap((seed) =>
    trials.map(({ config, ...trial }) => {
      const folder = runFolder(out, trial, seed);
      const label = `${trial.name}, seed ${seed}`;
      return { trial, seed, folder, label, config: { ...config, seed, out_dir: folder } };
    }),
  );
}

export function runFolder(out: string, trial: Trial, seed: number): string {
  return join(out, trial.slug, `seed-${seed}`);
}

/**
 * Refuse a folder that holds something else, or runs that began with other settings.
 * @throws UserError that names the first difference
 */
export function checkFolder(out: string, experiment: ExperimentConfig, plan: readonly PlannedRun[]): void {
  const { name } = experiment.settings;
  if (existsSync(out)) {
    const before = readExperimentName(out);
    if (before !== undefined && before !== name) {
      throw new UserError(`${out} holds the experiment ${before}, not ${name}; name another --out`);
    }
    const others = before === undefined ? readdirSync(out).filter((file) => file !== "lock.json") : [];
    if (others.length > 0) throw new UserError(`${out} holds other files (${others[0]}); name another --out`);
  }
  for (const { folder, config, label } of plan) {
    const before = readConfig(folder);
    const [difference] = before ? differencesOf(before, config, FREE) : [];
    if (difference === undefined) continue;
    throw new UserError(`${label} was begun in ${out} with ${difference}; put that back, or name another --out`);
  }
}

/** Write what a run is made of, before it begins. */
export function prepareRun({ folder, config, seed }: PlannedRun): void {
  const load = Number(loadavg()[0]!.toFixed(1));
  const date = new Date().toISOString();
  const environment: Environment = { date, versions: versions(), hardware: machineOf(), load, seed };
  mkdirSync(folder, { recursive: true });
  writeJson(join(folder, CONFIG_FILE), config);
  writeJson(join(folder, ENVIRONMENT_FILE), environment);
}

const Version = z.nullable(z.string());
const Environment = z.object({
  date: z.string(),
  versions: z.object({ package: Version, commit: Version, node: Version, onnxruntime: Version, tfjs: Version }),
  hardware: z.object({ cpu: z.string(), cores: z.number(), memory_gb: z.number(), platform: z.string() }),
  load: z.number(), // processes that wanted a core in the minute before the run; 0 on Windows, which doesn't tell
  seed: z.number(),
});
export type Environment = z.infer<typeof Environment>;

export function readEnvironment(folder: string): Environment | undefined {
  return readOurs(join(folder, ENVIRONMENT_FILE), Environment);
}

const Scalar = z.union([z.number(), z.string(), z.boolean()]);
const Config = z.record(z.string(), z.union([Scalar, z.array(Scalar)]));

export function readConfig(folder: string): Settings | undefined {
  const config = readOurs(join(folder, CONFIG_FILE), Config);
  return config && currentSettings(config);
}

/**
 * The experiment whose runs are in a folder.
 * @throws UserError if there is none
 */
export function readExperiment(out: string): ExperimentConfig {
  const settings = readOurs(join(out, EXPERIMENT_FILE), z.looseObject({}));
  if (!settings) {
    throw new UserError(
      `no experiment in ${shownPath(out)} (no ${EXPERIMENT_FILE} there); see npx tsx tools/experiment.ts list`,
    );
  }
  return new ExperimentConfig(settings as unknown as ExperimentSettings, join(out, EXPERIMENT_FILE)); // which checks them
}

function readExperimentName(out: string): string | undefined {
  return readOurs(join(out, EXPERIMENT_FILE), z.looseObject({ name: z.exactOptional(z.string()) }))?.name;
}

/** Undefined if there is no such file. */
function readOurs<T extends z.ZodMiniType>(path: string, schema: T): z.infer<T> | undefined {
  return readJson(path, schema, (why) => {
    return new UserError(`${path} is damaged (${why}); remove it, or name another folder`);
  });
}
