// Chooses a run's callbacks by its settings, passes events to them, and handles their failures.

import { existsSync } from "node:fs";
import { basename, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import type { Clock } from "../common/clock.ts";
import { UserError } from "../common/errors.ts";
import { printable } from "../common/printable.ts";
import type { Progress } from "../common/progress.ts";
import { explainIssue } from "../common/read_file.ts";
import { z } from "../common/zod.ts";
import type { RunCheckpoint } from "../training/run_checkpoint.ts";
import type { Callback, CheckpointEvent, EndEvent, EvaluateEvent, Run, StepEvent } from "./callback.ts";
import { consoleLines, progressBar } from "./console.ts";
import { ending } from "./ending.ts";
import { metricsFile } from "./metrics_file.ts";
import { resources } from "./resources.ts";
import type { REACTING, WATCHING } from "./settings.ts";
import { stability } from "./stability.ts";
import { type Uncompiled, uncompiled } from "./uncompiled.ts";

const HOOKS = ["onTrainStart", "onStep", "onEvaluate", "onCheckpoint", "onTrainEnd"] as const;
type Hook = (typeof HOOKS)[number];

/** The settings that choose the callbacks. */
type WatchConfig = Readonly<typeof WATCHING & typeof REACTING & Wandb>;
type Wandb = { wandb_log: boolean; wandb_project: string; wandb_run_name: string };

/**
 * The callbacks that the settings ask for: first those that add metrics, then those that write them. The others aren't even
 * loaded.
 * @throws UserError if one can't work: a file that exports none, a service that isn't running
 */
export async function chosenCallbacks(config: WatchConfig): Promise<{ first: Callback[]; writers: Callback[] }> {
  const first: Callback[] = [stability(config)];
  const writers: Callback[] = [];
  const { stats_interval: statsInterval, histogram_interval: histogramInterval } = config;
  if (config.early_stop_patience > 0) {
    const { earlyStop } = await import("./early_stop.ts");
    first.push(earlyStop({ patience: config.early_stop_patience }));
  }
  if (statsInterval > 0 || histogramInterval > 0) {
    const { layers } = await import("./layers.ts");
    first.push(layers({ statsInterval, histogramInterval }));
  }
  if (config.sample_interval > 0) {
    const { samples } = await import("./samples.ts");
    first.push(samples({ interval: config.sample_interval }));
  }
  for (const path of config.callbacks) first.push(await loadCallback(path, config));
  if (config.tensorboard) {
    const { tensorboard } = await import("./tensorboard.ts");
    writers.push(tensorboard({ histogramInterval }));
  }
  if (config.wandb_log) {
    const { checkWandb, wandb } = await import("./wandb.ts");
    await checkWandb();
    writers.push(wandb({ project: config.wandb_project, runName: config.wandb_run_name }));
  }
  if (config.mlflow_uri !== "") {
    const { checkMlflow, mlflow } = await import("./mlflow.ts");
    await checkMlflow(config.mlflow_uri);
    writers.push(mlflow({ uri: config.mlflow_uri, experiment: config.wandb_project }));
  }
  return { first, writers };
}

/** Order them: first those that measure and decide, then those that print, then those that write files. */
export function watchRun(
  { first, writers }: { first: Callback[]; writers: Callback[] },
  config: { log_interval: number; eval_only: boolean } & Uncompiled,
  progress: Progress,
  clock: Clock,
  checkpoint?: RunCheckpoint,
): Watch {
  const { log_interval: logInterval, eval_only, compile } = config;
  const shown = [consoleLines(progress.log, { logInterval }), progressBar(progress)];
  if (!compile) shown.push(uncompiled(progress.log, config));
  const measured = [resources(clock), ...first];
  if (eval_only) return new Watch([...measured, ...shown], progress.log);
  const [before, after] = checkpoint ? [[ownFolder(checkpoint)], [ending(checkpoint)]] : [[], []];
  return new Watch([...before, ...measured, ...shown, metricsFile(), ...writers, ...after], progress.log);
}

/** Makes sure that the folder exists, and is this run's, before anything is written to it. */
function ownFolder(checkpoint: RunCheckpoint): Callback {
  const check = () => checkpoint.check();
  return { name: "out_dir", onStep: check, onEvaluate: check };
}

/** The callback that a file exports as its default: an object, or a function that makes one from the run's settings. */
export async function loadCallback(path: string, config: unknown): Promise<Callback> {
  const full = resolve(path);
  if (!existsSync(full)) throw new UserError(`no file ${path}, which --callbacks names (looked for ${full})`);
  let found: unknown;
  try {
    found = (await import(pathToFileURL(full).href)).default;
    if (typeof found === "function") found = await found(config);
  } catch (error) {
    throw new UserError(`callback ${path} can't be loaded: ${oneLine(error)}`, { cause: error });
  }
  const functions = HOOKS.filter((hook) => typeof (found as Partial<Callback> | undefined)?.[hook] === "function");
  if (functions.length === 0) {
    throw new UserError(`${path} exports no callback: its default must have one of ${HOOKS.join(", ")}`);
  }
  const callback = found as Callback;
  if (!callback.name) Object.assign(callback, { name: basename(path) });
  return callback;
}

function oneLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).trim().replaceAll(/\s+/g, " ");
}

/** A callback failed, and the run has to end. */
export class CallbackError extends UserError {}

/** Passes a run's events to its callbacks, in order, and keeps their state. */
export class Watch implements Required<Pick<Callback, Hook>> {
  #callbacks: readonly Callback[];
  readonly #started = new Set<Callback>();
  readonly #log: (line: string) => void;

  constructor(callbacks: readonly Callback[], log: (line: string) => void) {
    this.#callbacks = callbacks;
    this.#log = log;
    for (const { name } of callbacks) {
      if (callbacks.filter((other) => other.name === name).length === 1) continue;
      throw new UserError(`two callbacks are called ${name}; give each its own name`);
    }
  }

  onTrainStart(run: Run): Promise<void> {
    return this.#call("onTrainStart", run.startIter, (callback) => {
      this.#started.add(callback);
      return callback.onTrainStart?.(run);
    });
  }

  onStep(event: StepEvent): Promise<void> {
    return this.#call("onStep", event.iter, (callback) => callback.onStep?.(event));
  }

  onEvaluate(event: EvaluateEvent): Promise<void> {
    return this.#call("onEvaluate", event.iter, (callback) => callback.onEvaluate?.(event));
  }

  onCheckpoint(event: CheckpointEvent): Promise<void> {
    return this.#call("onCheckpoint", event.iter, (callback) => callback.onCheckpoint?.(event));
  }

  /** Every started callback gets onTrainEnd, even if an earlier one fails. */
  onTrainEnd(event: EndEvent): Promise<void> {
    this.#callbacks = this.#callbacks.filter((callback) => this.#started.has(callback));
    return this.#call("onTrainEnd", event.iter, (callback) => callback.onTrainEnd?.(event));
  }

  async #call(hook: Hook, iter: number, call: (callback: Callback) => void | Promise<void>): Promise<void> {
    let first: CallbackError | undefined;
    for (const callback of this.#callbacks) {
      try {
        const result = call(callback);
        if (result) await result;
      } catch (error) {
        this.#callbacks = this.#callbacks.filter((other) => other !== callback);
        const what = `callback ${callback.name} failed in ${hook} at step ${iter}: ${oneLine(error)}`;
        if (callback.onError === "continue") this.#log(`${what}; training continues without it`);
        else if (hook === "onTrainEnd") first ??= new CallbackError(what, { cause: error });
        else throw new CallbackError(what, { cause: error });
      }
    }
    if (first) throw first;
  }

  /** The callbacks' state for a checkpoint, by their names. */
  state(): Record<string, unknown> {
    const states = this.#callbacks.flatMap((callback) => (callback.state ? [[callback.name, callback.state()]] : []));
    return Object.fromEntries(states);
  }

  /** Restore the callbacks' state; those without one start over. @throws UserError if it is damaged */
  restore(states: Record<string, unknown>): void {
    for (const callback of this.#callbacks) {
      if (!Object.hasOwn(states, callback.name)) continue;
      try {
        callback.restore?.(states[callback.name]);
      } catch (error) {
        const what = `ckpt.json: callbacks.${callback.name} is not what this callback keeps there`;
        const why = error instanceof z.core.$ZodError ? explainIssue(error) : oneLine(error);
        throw new UserError(`${what} (${printable(why)}); take it out of ckpt.json, and the callback starts over`, {
          cause: error,
        });
      }
    }
  }
}
