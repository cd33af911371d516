// The settings of training: train.ts' own, from a base (config/train_shakespeare_char_cpu.ts, or the user's config file), the user's
// settings, the search's results, and a schedule sized to the text. Left out: the meaning of settings.

import { defaults as benchDefaults } from "../../bench.ts";
import { UserError } from "../../lib/common/errors.ts";
import { didYouMean } from "../../lib/common/nearest.ts";
import { joinList } from "../../lib/settings/lists.ts";
import type { Settings, Value } from "../../lib/settings/rules.ts";
import { defaults as trainDefaults } from "../../train.ts";

/** Settings of train.ts that the pipeline sets. */
const OWN = ["out_dir", "dataset", "init_from", "eval_only"];

/** Settings that a trial of optimize changes or omits: it is short and unwatched. */
const NOT_TRIED = [
  ...OWN,
  // I/O
  ...["eval_interval", "log_interval", "always_save_checkpoint"],
  // watching
  ...["callbacks", "stats_interval", "sample_interval", "tensorboard", "histogram_interval", "mlflow_uri"],
  ...["wandb_log", "wandb_project", "wandb_run_name"],
  // reacting
  ...["early_stop_patience", "lr_patience", "lr_factor", "spike_threshold", "rollback"],
  // how long
  ...["max_iters", "lr_decay_iters"],
];

/** Settings that may change when training is resumed: its length, callbacks and how it runs. */
const FREE = [
  ...NOT_TRIED,
  ...["warmup_iters", "eval_iters"],
  // system
  ...["backend", "device", "compile", "threads", "micro_batch_size", "grad_checkpoint"],
];

export const isFree = (key: string) => FREE.includes(key);

/** The settings that optimize searches, unless the user gave them. */
export const SEARCHED = ["threads", "batch_size", "micro_batch_size", "learning_rate"] as const;
export type Searched = (typeof SEARCHED)[number];
export type Found = Partial<Record<Searched, number>>;

/** From this many tokens on training has its full length; for a quarter of them half of it. A model of the default size
 * learned from 810 characters of English for 150 steps, from 4,500 for 230 to 350, from 18,000 for 900, of 2,000 at most; more
 * steps cost little, as the best checkpoint is kept. */
const ENOUGH = 60_000;
const EVALUATIONS = 8; // at least, over the run: each may leave a checkpoint

/** train.ts's settings and their defaults, without those that the pipeline sets. */
export function defaultsOfTraining(): Settings {
  return Object.fromEntries(Object.entries(trainDefaults).filter(([key]) => !OWN.includes(key)));
}

/** Settings that affect speed and loss: those that a trial of optimize shares. */
export function tried(settings: Settings): Settings {
  return Object.fromEntries(Object.entries(settings).filter(([key]) => !NOT_TRIED.includes(key)));
}

/** Those of them that bench.ts has too: the settings of a step. */
export function timed(settings: Settings): Settings {
  return Object.fromEntries(Object.entries(tried(settings)).filter(([key]) => Object.hasOwn(benchDefaults, key)));
}

/** A setting that is a number. */
export function numberOf(settings: Settings, key: string): number {
  const value = settings[key];
  if (typeof value !== "number") throw new Error(`internal: ${key} isn't a number, but ${value}`);
  return value;
}

/**
 * Training's settings in full.
 * @param base with the user's settings in it; max_iters 0 if the text decides
 * @param flags keys that the user gave as flags, which are kept
 * @param tokens in train.bin; if max_iters is 0 training takes `most` tokens, or fewer for a short text
 */
export function sized(
  base: Settings,
  flags: ReadonlySet<string>,
  found: Found,
  tokens: number,
  most: number,
): Settings {
  const settings: Settings = { ...base, ...found };
  const number = (key: string) => numberOf(settings, key);
  if (number("max_iters") === 0) {
    const step = number("batch_size") * number("gradient_accumulation_steps") * number("block_size");
    const steps = (Math.min(1, Math.sqrt(tokens / ENOUGH)) * most) / step;
    settings.max_iters = Math.max(EVALUATIONS, Math.round(steps / EVALUATIONS) * EVALUATIONS);
  }
  const iters = number("max_iters");
  if (!flags.has("lr_decay_iters")) settings.lr_decay_iters = iters;
  if (!flags.has("warmup_iters")) settings.warmup_iters = Math.min(number("warmup_iters"), Math.floor(iters / 20));
  if (!flags.has("eval_interval")) settings.eval_interval = Math.min(number("eval_interval"), intervalOf(iters));
  if (!flags.has("min_lr") && found.learning_rate !== undefined) {
    const ratio = numberOf(base, "min_lr") / (numberOf(base, "learning_rate") || 1);
    settings.min_lr = Number((found.learning_rate * ratio).toPrecision(6));
  }
  return settings;
}

/** Steps between evaluations: about eight per run, the last at its end if the number of steps allows it. */
function intervalOf(iters: number): number {
  const count = [EVALUATIONS, 10, 9, 7, 6, 5].find((count) => iters % count === 0) ?? EVALUATIONS;
  return Math.max(1, Math.floor(iters / count));
}

/** The settings that differ from train.ts's defaults, as flags. */
export function trainFlags(settings: Settings, defaults: Settings): string[] {
  return flagsOf(Object.fromEntries(Object.entries(settings).filter(([key, value]) => !same(value, defaults[key]))));
}

export function flagsOf(settings: Settings): string[] {
  return Object.entries(settings).map(([key, value]) => `--${key}=${Array.isArray(value) ? joinList(value) : value}`);
}

export function same(a: Value, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** `name`, checked against `names`. @throws UserError that lists them */
export function oneOf<T extends string>(names: readonly T[], name: string, key: string): T {
  const found = names.find((known) => known === name);
  if (found !== undefined) return found;
  const near = didYouMean(name, names);
  throw new UserError(`--${key}=${name} is none of ${names.join(", ")}${near ? `; ${near}` : ""}`);
}
