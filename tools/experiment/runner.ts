// Makes the runs of an experiment that aren't there yet, each as a process of train.ts, some at a time. All of its
// state is in the runs' folders, so it may be killed at any moment and started again.

import type { ChildProcess } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { writeJson } from "../../lib/common/atomic.ts";
import { type ChildOptions, problemOf, startScript } from "../../lib/common/child.ts";
import { explain } from "../../lib/common/errors.ts";
import { duration } from "../../lib/common/format.ts";
import { InUseError, lock, STALE } from "../../lib/common/lock.ts";
import { startProgress } from "../../lib/common/progress.ts";
import { z } from "../../lib/common/zod.ts";
import { MetricsReader } from "../../lib/monitor/metrics_file.ts";
import type { ExperimentConfig } from "./experiment_config.ts";
import { formatMetric } from "./format.ts";
import { finalMetrics, RESULTS_FILE, type Results, readResults, readRun, thinned } from "./results.ts";
import {
  CONFIG_FILE,
  checkFolder,
  EXPERIMENT_FILE,
  OUTPUT_FILE,
  type PlannedRun,
  planRuns,
  prepareRun,
} from "./run_folder.ts";

export interface RunOptions {
  out: string; // the experiment's folder
  jobs?: number; // runs at a time; the experiment's own if not given
  log?: (line: string) => void;
}

export interface Outcome {
  finished: number; // also those that were there already
  failed: { label: string; error: string }[];
  left: number; // not ended: interrupted, or not begun
  interrupted?: NodeJS.Signals;
}

const LOOK = 300; // ms between two looks at how far the runs are
const SAMPLED = 200; // tokens by which the speed of sampling is measured

/** Of sample.ts' line of JSON. */
const Sample = z.object({ logprobs: z.array(z.number()), seconds: z.number() });

/**
 * Make the runs of `experiment` that are missing below `out`, and resume those that were begun.
 * @throws UserError before anything runs: for settings that can't be, or a folder that holds something else
 */
export async function runExperiment(experiment: ExperimentConfig, options: RunOptions): Promise<Outcome> {
  const { out, jobs = experiment.settings.jobs } = options;
  // 1) all that can be wrong is found now
  const plan = await planRuns(experiment, out);
  checkFolder(out, experiment, plan);
  const release = lock(out, "an experiment");
  writeJson(join(out, EXPERIMENT_FILE), experiment.settings);
  const { name, metric } = experiment.settings;
  const waiting = plan.filter(({ folder }) => readResults(folder)?.state !== "finished");
  const outcome: Outcome = { finished: plan.length - waiting.length, failed: [], left: waiting.length };
  const threads = await threadsFor(plan, jobs);

  // 2) how far everything is, in steps
  const stepsOf = ({ config }: PlannedRun) => Number(config.max_iters);
  const total = waiting.reduce((sum, run) => sum + stepsOf(run), 0);
  const active = new Map<PlannedRun, { process: ChildProcess; script: string; reader: MetricsReader; iter: number }>();
  const done = new Map<PlannedRun, number>(); // steps, of runs that have ended or were begun
  for (const run of waiting) done.set(run, readRun(run.folder)?.history.iter ?? 0);
  const stepsDone = () => [...done.values()].reduce((sum, steps) => sum + steps, 0);
  const doneBefore = stepsDone();
  const began = performance.now();
  const progress = startProgress(total, doneBefore, options.log);
  const seeds = experiment.settings.seeds.length;
  const counts = `${plan.length} runs: ${plan.length / seeds} trials, ${seeds} ${seeds === 1 ? "seed" : "seeds"}`;
  progress.log(`${name}: ${counts}; ${outcome.finished} finished before, in ${out}`);
  const timeLeft = () => {
    const made = stepsDone() - doneBefore;
    if (made === 0 || stepsDone() === total) return "";
    return `, about ${duration(((performance.now() - began) / 1000 / made) * (total - stepsDone()))} left`;
  };
  const look = setInterval(() => {
    const notes: string[] = [];
    for (const [run, state] of active) {
      for (const event of state.reader.read()) state.iter = event.event === "step" ? event.iter + 1 : event.iter;
      done.set(run, Math.min(stepsOf(run), state.iter));
      notes.push(`${run.label}: ${state.script === "train.ts" ? `${state.iter}/${stepsOf(run)}` : "sampling"}`);
    }
    progress.update(stepsDone(), `${outcome.finished}/${plan.length} runs | ${notes.join(" | ")}`);
  }, LOOK);

  // 3) Ctrl-C is passed on once each time: the first lets a run save, the second ends it
  const pass = (signal: NodeJS.Signals) => {
    if (!outcome.interrupted) {
      progress.stop();
      progress.log(`${signal}: ${active.size} running, which save and stop; once more ends them at once`);
    }
    outcome.interrupted ??= signal;
    for (const child of active.values()) child.process.kill(signal === "SIGHUP" ? "SIGTERM" : signal);
  };
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const signal of signals) process.on(signal, pass);

  /** Start a script for a run, and wait for its end. Its output goes to a file, so that it outlives this process. */
  async function child(run: PlannedRun, script: string, args: readonly string[], options: ChildOptions = {}) {
    const log = join(run.folder, OUTPUT_FILE);
    const { process, ended } = startScript(script, args, { log, ownGroup: true, ...options });
    const reader = new MetricsReader(run.folder);
    reader.read(); // what was there before
    active.set(run, { process, script, reader, iter: done.get(run) ?? 0 });
    try {
      const end = await ended;
      return { problem: problemOf(end, `, see ${log}`), pid: process.pid, stdout: end.stdout };
    } finally {
      active.delete(run);
    }
  }

  /** Who else is at work in a run's folder. */
  function holderOf({ folder }: PlannedRun): InUseError | undefined {
    try {
      if (existsSync(folder)) lock(folder, "an experiment")();
    } catch (error) {
      if (error instanceof InUseError) return error;
      throw error;
    }
    return undefined;
  }

  /**
   * A process of a tool that was killed may still be at it: wait until it has ended, as long as it shows signs of life.
   * Gives the line that says that it doesn't.
   */
  async function untilFree(run: PlannedRun): Promise<string | undefined> {
    for (let told = false; !outcome.interrupted; told = true) {
      const holder = holderOf(run);
      if (!holder) return undefined;
      if (holder.silence > STALE) return holder.message;
      if (!told) progress.log(`${run.label}: ${holder.state}; waiting until it ends`);
      await sleep(LOOK);
    }
    return undefined;
  }

  /** Train what is left of a run. Gives the line that says what went wrong; nothing where it is complete. */
  async function train(run: PlannedRun): Promise<string | undefined> {
    for (;;) {
      const stuck = await untilFree(run);
      if (stuck !== undefined) return stuck;
      if (isComplete(run) || outcome.interrupted) return undefined;
      prepareRun(run);
      const resume = existsSync(join(run.folder, "ckpt.json"));
      if (resume) progress.log(`${run.label}: resuming from its checkpoint`);
      const { problem, pid } = await child(run, "train.ts", [
        join(run.folder, CONFIG_FILE),
        `--out_dir=${run.folder}`,
        ...(threads > 0 ? [`--threads=${threads}`] : []),
        ...(resume ? ["--init_from=resume"] : []),
      ]);
      if (problem === undefined || readRun(run.folder)?.history.start?.pid === pid) return problem;
      // was another process faster? Then wait for that one, if it is still at it
      if (!holderOf(run)) return isComplete(run) ? undefined : problem;
    }
  }

  async function make(run: PlannedRun): Promise<void> {
    const problem = await train(run);
    if (outcome.interrupted) return;
    const base = { format_version: 1 as const, experiment: name, trial: run.trial.name, seed: run.seed };
    const told = readRun(run.folder);
    const error = problem ?? (told ? undefined : "it left no metrics.jsonl");
    const results: Results = {
      ...base,
      state: error === undefined ? "finished" : "failed",
      ...(error === undefined ? {} : { error }),
      date: new Date().toISOString(),
      iter: told?.history.series.get("val/loss")?.iters.at(-1) ?? 0,
      facts: told?.history.start?.facts ?? {},
      metrics: told ? finalMetrics(told) : {},
      history: told ? thinned(told.history) : {},
      notes: [],
    };
    if (error === undefined) await measureSampling(run, results);
    if (outcome.interrupted) return;
    writeJson(join(run.folder, RESULTS_FILE), results);
    done.set(run, stepsOf(run));
    outcome.left--;
    if (error === undefined) outcome.finished++;
    else outcome.failed.push({ label: run.label, error });
    const value = results.metrics[metric] ?? results.history[metric]?.values.at(-1);
    const figures = `${metric} ${formatMetric(metric, value)}, ${duration(results.metrics.wall_s ?? 0)}`;
    const count = `${plan.length - outcome.left} of ${plan.length} done${timeLeft()}`;
    progress.log(`${run.label}: ${error === undefined ? figures : `failed: ${error}`} (${count})`);
  }

  /** Sampling speed, in tokens/s, of sample.ts with the run's checkpoint. */
  async function measureSampling(run: PlannedRun, results: Results): Promise<void> {
    const flags = ["--num_samples=1", `--max_new_tokens=${SAMPLED}`, `--seed=${run.seed}`, "--json=true"];
    const { problem, stdout } = await child(
      run,
      "sample.ts",
      [`--out_dir=${run.folder}`, ...(threads > 0 ? [`--threads=${threads}`] : []), ...flags],
      { pipe: "stdout" },
    );
    if (problem !== undefined) {
      results.notes.push(`sampling speed: ${problem}`);
      return;
    }
    const { logprobs, seconds } = Sample.parse(JSON.parse(stdout));
    results.metrics.inference_tokens_per_s = Number((logprobs.length / seconds).toFixed(1));
  }

  // 4) some at a time
  try {
    const queue = [...waiting];
    const worker = async () => {
      for (let run = queue.shift(); run && !outcome.interrupted; run = queue.shift()) await make(run);
    };
    await Promise.all(Array.from({ length: Math.min(jobs, queue.length) }, worker));
  } catch (error) {
    for (const child of active.values()) child.process.kill("SIGTERM");
    throw explain(error, `can't continue ${out}`);
  } finally {
    clearInterval(look);
    progress.stop();
    for (const signal of signals) process.off(signal, pass);
    release();
  }
  return outcome;
}

/** Has a run come to its end? */
function isComplete({ folder }: PlannedRun): boolean {
  return ["finished", "stopped"].includes(readRun(folder)?.history.end?.reason ?? "");
}

/** Threads for each run, unless they are set: an equal share of the cores. 0: train.ts' default. */
async function threadsFor(plan: readonly PlannedRun[], jobs: number): Promise<number> {
  if (jobs === 1 || plan.some(({ config }) => config.threads !== 0)) return 0;
  const { defaultThreads } = await import("../../lib/engine/runtime/device.ts");
  return Math.max(1, Math.floor(defaultThreads() / jobs));
}
