// What training is told: train.ts's own settings, from a base (config/train_shakespeare_char_cpu.ts, or the user's config
// file), what the user said, what the search found, and a schedule sized to the text. Left out: any setting's meaning.

import { defaults as benchDefaults } from "../../bench.ts";
import { UserError } from "../../lib/common/errors.ts";
import { didYouMean } from "../../lib/common/nearest.ts";
import { joinList } from "../../lib/settings/lists.ts";
import type { Settings, Value } from "../../lib/settings/rules.ts";
import { defaults as trainDefaults } from "../../train.ts";

/** Settings of train.ts that are the pipeline's to give. */
const OWN = ["out_dir", "dataset", "init_from", "eval_only"];

/** Settings that a trial of optimize has others of, or none: it is short and nobody's run, watched by no one. */
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

/** Settings that may change while a training goes on: it is the same one, longer or shorter, watched or run otherwise. */
const FREE = [
  ...NOT_TRIED,
  ...["warmup_iters", "eval_iters"],
  // system
  ...["backend", "device", "compile", "threads", "micro_batch_size", "grad_checkpoint"],
];

export const isFree = (key: string) => FREE.includes(key);

/** What optimize searches, each unless the user gave it. */
export const SEARCHED = ["threads", "batch_size", "micro_batch_size", "learning_rate"] as const;
export type Searched = (typeof SEARCHED)[number];
export type Found = Partial<Record<Searched, number>>;

/** Tokens from which on a text is trained on as long as any; a quarter of them for half as long. A model of the default size
 * learned from 810 characters of English for 150 steps, from 4,500 for 230 to 350, from 18,000 for 900, of 2,000 at most; more
 * steps cost little, as the best checkpoint is kept. */
const ENOUGH = 60_000;
const EVALUATIONS = 8; // over the run, at least: each may leave a checkpoint

/** train.ts's settings and their defaults, without those that the pipeline gives it. */
export function defaultsOfTraining(): Settings {
  return Object.fromEntries(Object.entries(trainDefaults).filter(([key]) => !OWN.includes(key)));
}

/** What decides how fast training is and what it learns: all of its settings that a trial of optimize shares. */
export function tried(settings: Settings): Settings {
  return Object.fromEntries(Object.entries(settings).filter(([key]) => !NOT_TRIED.includes(key)));
}

/** Of these what bench.ts has too: the settings of a step. */
export function timed(settings: Settings): Settings {
  return Object.fromEntries(Object.entries(tried(settings)).filter(([key]) => Object.hasOwn(benchDefaults, key)));
}

/** A setting that is a number. */
export function numberOf(settings: Settings, key: string): number {
  const value = settings[key];
  if (typeof value !== "number") throw new Error(`internal: ${key} is no number, but ${value}`);
  return value;
}

/**
 * Training's settings in full.
 * @param base with the user's settings in it; max_iters 0 where the text decides
 * @param flags the keys that the user gave as flags: they stay
 * @param tokens in train.bin; where max_iters is 0 training takes `most` tokens, or fewer where the text is short
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

/** Steps between evaluations: some eight to a run, the last at its end where the number of steps allows it. */
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

/** The place of `name` among `names`; a UserError lists them. */
export function oneOf<T extends string>(names: readonly T[], name: string, key: string): T {
  const found = names.find((known) => known === name);
  if (found !== undefined) return found;
  const near = didYouMean(name, names);
  throw new UserError(`--${key}=${name} is none of ${names.join(", ")}${near ? `; ${near}` : ""}`);
}
