// One typed, frozen object of settings: a script's defaults < those of the run that is resumed < NANOGPT_ENV's file < a
// config file < NANOGPT_<KEY> < flags.
//
//   const defaults = {
//     // model
//     n_layer: 12, // blocks
//   };
//   const config = await configure(import.meta.url, defaults);
//
//   npx tsx train.ts config/train_x.ts --n_layer=4 --no-bias
//   NANOGPT_N_LAYER=4 npx tsx train.ts
//   npx tsx train.ts --help
//
// The default decides a key's type, lib/settings/rules.ts its range; lib/settings/files.ts reads the files. Every mistake is a
// UserError that names the key and where it was set, thrown before anything is printed. Left out: positional arguments
// other than one config file.

import { readdirSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";

import minimist from "minimist";
import { main, UserError } from "./lib/common/errors.ts";
import { isMain } from "./lib/common/main_module.ts";
import { didYouMean } from "./lib/common/nearest.ts";
import { printable } from "./lib/common/printable.ts";
import { checkValue } from "./lib/settings/check_value.ts";
import { type FileSetting, readConfigFile } from "./lib/settings/files.ts";
import { helpAsked, helpText, screenOf, wrap } from "./lib/settings/help.ts";
import { splitList } from "./lib/settings/lists.ts";
import { currentKey, currentSetting, currentSettings, RENAMED_KEYS } from "./lib/settings/renamed.ts";
import { findConflict, rules, type Settings, type Value } from "./lib/settings/rules.ts";
import { show } from "./lib/settings/show.ts";

/** The kinds of sources of a setting: NANOGPT_ENV's file, the config file or one that it extends, NANOGPT_<KEY>, or a flag. */
export type SourceKind = "environment" | "file" | "variable" | "flag";
/** Settings just above the defaults, and their source: those of the run that is resumed. */
export type Under = { source: string; settings: Record<string, unknown> };
type Source = { source: string; kind: SourceKind | "run" };
type Setting = FileSetting & Source;

export type Options<T = Settings> = {
  /** These settings, given the other sources merged but not checked yet. */
  under?: (given: T) => Under | undefined;
  usage?: string; // what the script does, in one line, for --help
  command?: string; // the first words of its command line, for --help; "[config file]" if not given
  log?: (line: string) => void; // gets the lines on overrides
  argv?: readonly string[];
  env?: Record<string, string | undefined>;
};

const ENV_PREFIX = "NANOGPT_";
const RESERVED = ["NANOGPT_ENV", "NANOGPT_PYTHON"]; // names a file of settings, the tests' Python
const ENVIRONMENTS = fileURLToPath(new URL("config/environments", import.meta.url));
const NUMBER = /^[+-]?(\d(_?\d)*(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i;
const WIDTH = 100; // of lines that also go to a log

const sourcesOf = new WeakMap<object, Map<string, Source>>();

/**
 * Merge all sources over `defaults` and check them. `scriptUrl` is the script's import.meta.url: --help prints
 * the help that lib/settings/help.ts reads from it, and ends the process.
 */
export async function configure<T extends Settings>(
  scriptUrl: string,
  defaults: T,
  { usage, command, log = console.log, argv = process.argv.slice(2), env = process.env, under }: Options<T> = {},
): Promise<Readonly<T>> {
  const help = helpAsked(argv);
  if (help) {
    const script = fileURLToPath(scriptUrl);
    console.log(helpText({ script, defaults, ...(usage && { usage }), ...(command && { command }) }, help, screenOf()));
    process.exit(0);
  }
  const { files, flags } = readFlags(argv, defaults);
  if (files.length > 1) throw new UserError(`two config files: ${files.join(" and ")}; pass one`);
  const notes: string[] = [];
  const settings = underCurrentNames(
    [
      ...(await readEnvironmentFile(env.NANOGPT_ENV)),
      ...(files[0] === undefined ? [] : await fromFile(files[0], "file")),
      ...readEnv(env, defaults),
      ...flags,
    ],
    notes,
  );

  const given = { ...defaults, ...Object.fromEntries(settings.map(({ key, value }) => [key, value])) };
  const run = under?.(given);
  const below = run && { ...run, settings: currentSettings(run.settings) };
  for (const [key, value] of Object.entries(below?.settings ?? {}).toReversed()) {
    if (settings.some((other) => other.key === key)) continue; // overridden: its mistakes don't count either
    settings.unshift({ key, value, source: run!.source, kind: "run" });
  }

  const config: Settings = structuredClone(defaults);
  const sources = new Map<string, Source>();
  const unused = new Map<string, string>(); // key -> its file
  for (const { key, value, source, kind } of settings) {
    if (!Object.hasOwn(defaults, key)) {
      if (!Object.hasOwn(rules, key) && kind !== "run") {
        const known = Object.keys({ ...defaults, ...rules });
        throw unknownKey(key, source, kind === "file" ? [...known, "extends"] : known);
      }
      if (kind === "file") unused.set(key, source); // a variable may be for another script
      continue;
    }
    const checked = checkValue(key, value, defaults);
    if ("problem" in checked) throw new UserError(`${checked.problem} (${source})${checked.hint}`);
    config[key] = checked.value;
    sources.delete(key); // to keep the order of the sources
    sources.set(key, { source, kind });
  }
  const conflict = findConflict(config);
  if (conflict) {
    const origins = conflict.keys.map((key) => `${key}: ${sources.get(key)?.source ?? "default"}`);
    throw new UserError(`${conflict.problem} (${origins.join(", ")})`);
  }

  for (const line of notes) log(line);
  for (const line of overrideLines(config, sources)) log(line);
  if (unused.size > 0) {
    const extended = [...unused.values()].some((file) => file !== files[0]) ? " and what it extends" : "";
    log(wrap(`not used here, from ${files[0]}${extended}: ${[...unused.keys()].join(", ")}`, 2, WIDTH));
  }
  if (below) log(differenceLine(config, below));

  for (const value of Object.values(config)) Object.freeze(value);
  sourcesOf.set(config, sources);
  return Object.freeze(config as T);
}

/** Run a script with the settings that it was given, where it is the file that Node was started with; errors as in `main`. */
export async function runScript<T extends Settings>(
  scriptUrl: string,
  defaults: T,
  run: (config: Readonly<T>) => Promise<void>,
  options: Options<T> = {},
): Promise<void> {
  if (isMain(scriptUrl)) await main(async () => run(await configure(scriptUrl, defaults, options)));
}

/** The settings of an object with these keys, in their order, without missing ones. */
export function pick<T extends object, K extends keyof T>(from: T, keys: readonly K[]): Pick<T, K> {
  const own = keys.filter((key) => Object.hasOwn(from, key));
  return Object.fromEntries(own.map((key) => [key, from[key]])) as Pick<T, K>;
}

/** Where the user set `key`: "--n_layer", "NANOGPT_N_LAYER" or the path of the file; undefined for a default. */
export function sourceOf<T extends object>(config: T, key: keyof T & string): string | undefined {
  return sourceKind(config, key) && sourcesOf.get(config)?.get(key)?.source;
}

/** The kind of sourceOf's answer. */
export function sourceKind<T extends object>(config: T, key: keyof T & string): SourceKind | undefined {
  const kind = sourcesOf.get(config)?.get(key)?.kind;
  return kind === "run" ? undefined : kind;
}

// ---- the sources ----

function readFlags(argv: readonly string[], defaults: Settings): { files: string[]; flags: Setting[] } {
  // 1) spell every flag as --key=value: minimist alone would take a path for the value of a boolean, -5 for a flag,
  //    `--compile=False` for true, and silently drop --constructor
  const words: string[] = [];
  const rest = [...argv];
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    if (!word.startsWith("-")) {
      words.push(word);
      continue;
    }
    const [, key, value] = /^--([^=]+)(=.*)?$/s.exec(word) ?? [];
    if (key === undefined) throw new UserError(`cannot read ${show(word)}; settings are spelled --key=value`);
    const negated = key.startsWith("no-") && value === undefined ? key.slice(3) : "";
    if (Object.hasOwn(defaults, negated)) {
      if (typeof defaults[negated] !== "boolean") throw new UserError(`${word}: ${negated} is not a true/false key`);
      words.push(`--${negated}=false`);
    } else if (!Object.hasOwn(defaults, currentKey(key))) {
      throw unknownKey(key, `--${key}`, Object.keys(defaults));
    } else if (value !== undefined) {
      words.push(word);
    } else if (typeof defaults[currentKey(key)] === "boolean") {
      words.push(`${word}=true`);
    } else {
      const next = rest.shift();
      if (next === undefined || /^--?[a-z_]/i.test(next)) throw new UserError(`${word} needs a value: ${word}=...`);
      words.push(`${word}=${next}`);
    }
  }
  // 2) collect them; as strings, or minimist makes a number of "007"
  const { _: files, ...given } = minimist(words, {
    string: ["_", ...Object.keys(defaults), ...Object.keys(RENAMED_KEYS)],
  });
  const flags = Object.entries(given).map(([key, texts]) => {
    const values = [texts].flat().map((text: string) => fromText(text, defaults[currentKey(key)]));
    const other = values.find((value) => JSON.stringify(value) !== JSON.stringify(values[0]));
    if (other !== undefined) {
      throw new UserError(`--${key} is given twice, as ${show(values[0])} and as ${show(other)}; pass it once`);
    }
    return { key, value: values[0], source: `--${key}`, kind: "flag" as const };
  });
  return { files, flags };
}

function readEnv(env: Record<string, string | undefined>, defaults: Settings): Setting[] {
  const settings: Setting[] = [];
  for (const [source, text] of Object.entries(env)) {
    if (!source.startsWith(ENV_PREFIX) || RESERVED.includes(source) || text === undefined) continue;
    const key = source.slice(ENV_PREFIX.length).toLowerCase();
    const now = currentKey(key);
    const like = Object.hasOwn(defaults, now) ? defaults[now] : undefined;
    settings.push({ key, value: fromText(text, like), source, kind: "variable" });
  }
  return settings;
}

async function fromFile(path: string, kind: SourceKind): Promise<Setting[]> {
  return (await readConfigFile(path)).map((setting) => ({ ...setting, kind }));
}

/** The settings of config/environments/<name>.yaml; none if NANOGPT_ENV is not set or empty. */
async function readEnvironmentFile(name = ""): Promise<Setting[]> {
  if (name === "") return [];
  const found = readdirSync(ENVIRONMENTS).flatMap((file) => /^(.+)\.yaml$/.exec(file)?.[1] ?? []);
  if (!found.includes(name)) {
    const near = didYouMean(name, found);
    throw new UserError(
      `NANOGPT_ENV must be ${found.toSorted().join(", ")} or not set, got ${show(name)}${near ? `; ${near}` : ""}`,
    );
  }
  return fromFile(relative("", join(ENVIRONMENTS, `${name}.yaml`)), "environment");
}

/** A flag's or variable's text as the type of `like`; unchanged if it can't be, for the rule to refuse. */
function fromText(text: string, like: Value | undefined): unknown {
  if (typeof like === "number") return NUMBER.test(text) ? Number(text.replaceAll("_", "")) : text;
  if (typeof like === "boolean") return /^(true|false)$/i.test(text) ? text.toLowerCase() === "true" : text;
  if (like === undefined || typeof like === "string") return text;
  return splitList(text).map((item) => fromText(item, like[0]));
}

/**
 * Settings under today's names; `notes` gets a line for each earlier one.
 * @throws UserError if one source gives both names
 */
function underCurrentNames(settings: readonly Setting[], notes: string[]): Setting[] {
  return settings.map((setting) => {
    const { key, value, note } = currentSetting(setting.key, setting.value);
    if (note === undefined) return setting;
    const isSameSource = ({ kind, source }: Setting) =>
      kind === setting.kind && (kind === "flag" || kind === "variable" || source === setting.source);
    const both = key !== setting.key && settings.find((other) => other.key === key && isSameSource(other));
    if (both) throw new UserError(`${setting.key} is the earlier name of ${key}; give only ${key} (${both.source})`);
    notes.push(`${note} (${printable(setting.source)})`);
    return { ...setting, key, value };
  });
}

// ---- messages ----

function unknownKey(key: string, source: string, known: string[]): UserError {
  return new UserError(
    `unknown key ${show(key)} (${printable(source)}); ${didYouMean(key, known) ?? "--help=all lists the keys"}`,
  );
}

/** One line per source, with the keys that it finally set. */
function overrideLines(config: Settings, sources: Map<string, Source>): string[] {
  const lines = new Map<string, string[]>();
  for (const [key, { source, kind }] of sources) {
    if (kind === "run") continue;
    const name = kind === "flag" ? "flags" : kind === "variable" ? "the environment" : source;
    lines.set(name, [...(lines.get(name) ?? []), `${key}=${show(config[key])}`]);
  }
  return [...lines].map(([name, items]) => wrap(`overriding with ${name}: ${items.join(", ")}`, 2, WIDTH));
}

/** The settings in which a resumed run differs from before. */
function differenceLine(config: Settings, { source, settings }: Under): string {
  const others = Object.keys(config).filter(
    (key) => Object.hasOwn(settings, key) && show(config[key]) !== show(settings[key]),
  );
  const changes = others.map((key) => `${key}=${show(config[key])} (was ${show(settings[key])})`);
  const gone = Object.keys(settings).filter((key) => !Object.hasOwn(config, key));
  const but = changes.length > 0 ? `, but ${changes.join(", ")}` : "";
  return wrap(`settings as in ${source}${but}${gone.length > 0 ? `; not used: ${gone.join(", ")}` : ""}`, 2, WIDTH);
}
