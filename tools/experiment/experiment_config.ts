// An experiment's definition: base settings, what is varied, and the seeds. A file of config/experiments/ holds one:
//
//   export default {
//     name: "heads",
//     base: "config/train_shakespeare_char_cpu.ts",
//     axes: { n_head: [1, 2, 4] },
//     seeds: [1337, 1338, 1339],
//   } satisfies ExperimentSettings;
//
// A trial is one choice of settings; a run is a trial with a seed.

import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { isAbsolute, join, resolve } from "node:path";

import { UserError } from "../../lib/common/errors.ts";
import { printable } from "../../lib/common/printable.ts";
import { keyOf, uniform } from "../../lib/common/rng.ts";
import { ROOT } from "../../lib/common/scripts.ts";
import { z } from "../../lib/common/zod.ts";
import { readConfigFile } from "../../lib/settings/files.ts";
import { currentSetting } from "../../lib/settings/renamed.ts";
import type { Settings } from "../../lib/settings/rules.ts";
import { type TrainConfig, defaults as trainDefaults } from "../../train.ts";
import { checkSettings, checkTogether, readBase } from "./train_settings.ts";

/** A range that random search samples from. Numbers are rounded to 4 digits, so that a trial's name shows them completely. */
export type Range<V> =
  | { uniform: [low: number, high: number] }
  | { log_uniform: [low: number, high: number] }
  | { choice: readonly V[] };

/** An experiment's file. */
export interface ExperimentSettings {
  name: string; // letters, digits, "-", "_" and "."; also its folder's name
  base: string | Partial<TrainConfig>; // a config file of train.ts and what it extends, or settings over train.ts' defaults
  changes?: Partial<TrainConfig>; // over base, for all trials
  search?: "grid" | "list" | "random"; // "grid" if not given: every combination of the axes' values
  axes?: { [K in keyof TrainConfig]?: readonly TrainConfig[K][] | Range<TrainConfig[K]> }; // of grid and random
  list?: readonly Partial<TrainConfig>[]; // the trials one by one
  trials?: number; // of a random search
  search_seed?: number; // of a random search; another one samples other trials
  seeds?: readonly number[]; // each trial runs with each of them; [1337] if not given
  jobs?: number; // runs at a time, which share the processor's cores
  metric?: string; // the metric to compare at the last evaluation: "val/loss" if not given
  goal?: "min" | "max";
}

export interface Trial {
  name: string; // "n_head=2, n_layer=4"
  slug: string; // the same as the name of a folder
  settings: Settings; // its changed settings
}

const NAME = /^[a-z0-9_][a-z0-9_.-]*$/i;
const NAME_RULE = 'letters, digits, "-", "_" and ".", not starting with "." or "-"';
const DIGITS = 4; // of a sampled number
const MOST_TRIALS = 10_000;
const NOT_VARIED: Record<string, string> = {
  out_dir: "each run gets its own folder below --out",
  seed: "give seeds: [1337, 1338]",
};

const pair = z.tuple([z.number(), z.number()]);
const loose = z.record(z.string(), z.unknown());
const Schema = z.strictObject({
  name: z.string().check(z.regex(NAME, NAME_RULE)),
  base: z.union([z.string(), loose]),
  changes: z._default(loose, {}),
  search: z._default(z.enum(["grid", "list", "random"]), "grid"),
  axes: z._default(
    z.record(
      z.string(),
      z.union([
        z.array(z.unknown()),
        z.strictObject({ uniform: pair }),
        z.strictObject({ log_uniform: pair }),
        z.strictObject({ choice: z.array(z.unknown()) }),
      ]),
    ),
    {},
  ),
  list: z._default(z.array(loose), []),
  trials: z._default(z.int().check(z.gte(1), z.lte(MOST_TRIALS)), 10),
  search_seed: z._default(z.int().check(z.gte(0)), 1),
  seeds: z._default(z.array(z.int()).check(z.minLength(1)), [1337]),
  jobs: z._default(z.int().check(z.gte(1)), 1),
  metric: z._default(z.string().check(z.minLength(1)), "val/loss"),
  goal: z._default(z.enum(["min", "max"]), "min"),
});
type Complete = z.infer<typeof Schema>;

export class ExperimentConfig {
  /** All settings, with defaults. */
  readonly settings: Readonly<Complete>;
  readonly #source: string;

  /**
   * @param source where the settings come from, for messages
   * @throws UserError if something is missing, unknown or of the wrong type; validate() checks whether it can be run
   */
  constructor(settings: ExperimentSettings, source = "the experiment") {
    this.#source = source;
    const parsed = Schema.safeParse(settings);
    if (!parsed.success) {
      const issue = parsed.error.issues[0]!;
      const wanted =
        issue.path[0] === "name" && issue.code === "invalid_format" ? `must be ${NAME_RULE}` : issue.message;
      throw new UserError(
        `${source}: ${printable(issue.path.map(String).join(".")) || "the whole"}: ${printable(wanted)}`,
      );
    }
    this.settings = parsed.data;
    this.#checkSearch();
  }

  /** The trials, in the order of the axes: the last one changes fastest. The same each time. */
  trials(): Trial[] {
    const { search, list } = this.settings;
    const choices = search === "list" ? list : search === "grid" ? this.#grid() : this.#random();
    return choices.map((settings) => {
      const name = nameOf(settings);
      return { name, slug: slugOf(name), settings: settings as Settings };
    });
  }

  /** base with the changes: what all trials have in common, complete. */
  async base(): Promise<Settings> {
    const { base, changes } = this.settings;
    const given = typeof base === "string" ? await readBase(this.#basePath(base)) : this.#check(base, "base");
    return { ...trainDefaults, ...given, ...this.#check(changes, "changes") };
  }

  /** A line for each earlier name of a setting or value in it or in its base. Trials are called as they are written, so that a
   * renamed setting doesn't run them again. */
  async renames(): Promise<string[]> {
    const { base, changes, axes, list } = this.settings;
    const fromFile = typeof base === "string" ? await readConfigFile(this.#basePath(base)) : [];
    const given: [string, unknown][] = [
      ...(typeof base === "string"
        ? fromFile.map(({ key, value }): [string, unknown] => [key, value])
        : Object.entries(base)),
      ...[changes, ...list].flatMap((settings) => Object.entries(settings)),
      ...Object.entries(axes).map(([key, values]): [string, unknown] => [key, valuesOf(values)]),
    ];
    return [...new Set(given.flatMap(([key, value]) => currentSetting(key, value).note ?? []))];
  }

  /**
   * Check everything that can be checked before a run.
   * @returns the trials with all of their settings
   * @throws UserError with the trial's name
   */
  async validate(): Promise<(Trial & { config: Settings })[]> {
    const { axes, list, seeds, name } = this.settings;
    // 1) the keys and values that are varied
    for (const [key, values] of Object.entries(axes)) {
      this.#refuseFixed(key);
      for (const value of valuesOf(values)) this.#check({ [key]: value }, `axes.${key}`);
    }
    list.forEach((settings, i) => {
      for (const key of Object.keys(settings)) this.#refuseFixed(key);
      this.#check(settings, `list, trial ${i + 1}`);
    });
    for (const seed of seeds) this.#check({ seed }, "seeds");
    const twice = seeds.find((seed, i) => seeds.indexOf(seed) !== i);
    if (twice !== undefined) throw new UserError(`${this.#source}: seed ${twice} is there twice; leave one out`);
    // 2) each trial as a whole
    const base = await this.base();
    const bySlug = new Map<string, string>();
    return this.trials().map((trial) => {
      const where = `${this.#source}, trial ${trial.name}`;
      // varied settings come last, in their own order, as in tables
      const varied = checkSettings(trial.settings, where);
      const fixed = Object.entries(base).filter(([key]) => !Object.hasOwn(varied, key));
      const config: Settings = { ...Object.fromEntries(fixed), ...varied };
      if (config.init_from === "resume") {
        throw new UserError(`${where}: init_from "resume" is how the tool continues runs; name a folder or "scratch"`);
      }
      checkTogether(config, where);
      const other = bySlug.get(trial.slug.toLowerCase()); // folders that differ by case only are one on some systems
      if (other !== undefined) throw new UserError(`${where}: it is there twice in ${name}; leave one out`);
      bySlug.set(trial.slug.toLowerCase(), trial.name);
      return { ...trial, config };
    });
  }

  /**
   * An experiment from a .json, .yaml or .ts file; it may extend others.
   * @throws UserError if there is none, or it isn't an experiment
   */
  static async load(path: string): Promise<ExperimentConfig> {
    const kind = { what: "experiment's file", hint: "config/experiments/ has some to start from" };
    const found = (await readConfigFile(path, kind)).map(({ key, value }) => [key, value]);
    return new ExperimentConfig(Object.fromEntries(found) as ExperimentSettings, path);
  }

  #check(settings: Readonly<Record<string, unknown>>, what: string): Settings {
    return checkSettings(settings, `${this.#source}, ${what}`);
  }

  #refuseFixed(key: string): void {
    const instead = Object.hasOwn(NOT_VARIED, key) ? NOT_VARIED[key] : undefined;
    if (instead) throw new UserError(`${this.#source}: ${key} can't be varied; ${instead}`);
  }

  #basePath(base: string): string {
    const places = [resolve(base), join(ROOT, base)];
    return isAbsolute(base) ? base : (places.find((place) => existsSync(place)) ?? base);
  }

  /** Check the requirements of each kind of search. */
  #checkSearch(): void {
    const { search, axes, list } = this.settings;
    const fail = (what: string) => new UserError(`${this.#source}: ${what}`);
    if (search === "list") {
      if (list.length === 0) throw fail('search "list" needs list: [{ n_head: 2 }, ...]');
      if (Object.keys(axes).length > 0) throw fail('search "list" takes no axes; put the trials into list');
      return;
    }
    if (list.length > 0) throw fail(`search "${search}" takes no list; give search: "list"`);
    if (Object.keys(axes).length === 0) throw fail("nothing is varied; give axes: { n_head: [1, 2, 4] }");
    for (const [key, values] of Object.entries(axes)) {
      if (search === "grid" && !Array.isArray(values)) {
        throw fail(`axes.${key} is a range; a grid needs a list of values, or take search: "random"`);
      }
      const [low = 0, high = 0] =
        "uniform" in values ? values.uniform : "log_uniform" in values ? values.log_uniform : [0, 1];
      if (low >= high) throw fail(`axes.${key} goes from ${low} to ${high}; give the lower end first`);
      if ("log_uniform" in values && low <= 0) throw fail(`axes.${key} is log_uniform from ${low}; start above 0`);
      const choices = Array.isArray(values) ? values : "choice" in values ? values.choice : [low];
      if (choices.length === 0) throw fail(`axes.${key} has no values`);
    }
  }

  #grid(): Record<string, unknown>[] {
    let trials: Record<string, unknown>[] = [{}];
    for (const [key, values] of Object.entries(this.settings.axes)) {
      trials = trials.flatMap((trial) => (values as unknown[]).map((value) => ({ ...trial, [key]: value })));
      if (trials.length > MOST_TRIALS)
        throw new UserError(`${this.#source}: more than ${MOST_TRIALS} trials; leave out some`);
    }
    return trials;
  }

  /** A value is a function of the search's seed, the axis and the sample's number: another axis changes no other one. */
  #random(): Record<string, unknown>[] {
    const { axes, trials: wanted, search_seed } = this.settings;
    const found = new Map<string, Record<string, unknown>>();
    for (let draw = 0; found.size < wanted; draw++) {
      if (draw >= 100 * wanted) {
        throw new UserError(
          `${this.#source}: ${wanted} trials, but only ${found.size} that differ were found; lower trials`,
        );
      }
      const trial: Record<string, unknown> = {};
      for (const [key, range] of Object.entries(axes)) {
        const u = uniform(keyOf("experiment", search_seed, key), draw);
        if (Array.isArray(range)) trial[key] = range[Math.floor(u * range.length)];
        else if ("choice" in range) trial[key] = range.choice[Math.floor(u * range.choice.length)];
        else trial[key] = drawNumber(range, u);
      }
      found.set(nameOf(trial), trial);
    }
    return [...found.values()];
  }
}

function drawNumber(range: { uniform: [number, number] } | { log_uniform: [number, number] }, u: number): number {
  const [low, high] = "uniform" in range ? range.uniform : range.log_uniform;
  const value = "uniform" in range ? low + u * (high - low) : low * (high / low) ** u;
  return Math.min(high, Math.max(low, Number(value.toPrecision(DIGITS))));
}

/** The values of an axis; for a range its two ends. */
function valuesOf(axis: Complete["axes"][string]): unknown[] {
  if (Array.isArray(axis)) return axis;
  if ("choice" in axis) return axis.choice;
  return "uniform" in axis ? axis.uniform : axis.log_uniform;
}

/** The name of a trial that changes nothing. */
export const UNCHANGED = "base";

function nameOf(settings: Record<string, unknown>): string {
  const parts = Object.entries(settings).map(([key, value]) => `${key}=${String(value)}`);
  return parts.join(", ") || UNCHANGED;
}

/** A name as a folder name: if it has to be changed, a checksum keeps it unique. */
function slugOf(name: string): string {
  const plain = name.replaceAll(", ", ",");
  const safe = plain.replaceAll(/[^\w.,=+-]+/g, "-").slice(0, 100);
  return safe === plain ? safe : `${safe}-${createHash("sha256").update(plain).digest("hex").slice(0, 8)}`;
}

/** The differences between two complete settings, in words. A key that only one of them has is from another version. */
export function differencesOf(
  before: Readonly<Settings>,
  now: Readonly<Settings>,
  ignored: readonly string[],
): string[] {
  return Object.entries(before).flatMap(([key, value]) => {
    if (ignored.includes(key) || now[key] === undefined) return [];
    const [was, is] = [JSON.stringify(value), JSON.stringify(now[key])];
    return was === is ? [] : [`${key} ${was}, now ${is}`];
  });
}
