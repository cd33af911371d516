// From a text to a model that writes like it: process -> optimize -> train -> evaluate -> generate, in one folder.
//
//   npx tsx tools/pipeline.ts --input_file=my.txt                  # -> out-my/
//   npx tsx tools/pipeline.ts --resume                             # continues after Ctrl-C, a kill or a power cut
//   npx tsx tools/pipeline.ts --out_dir=out-my --resume --max_iters=4000   # trains the model further
//   npx tsx tools/pipeline.ts --out_dir=out-my --from=generate --temperature=0.5
//
// Any setting of train.ts can be given too, as a flag or in a config file; settings given as flags aren't searched. Left out:
// several texts in one pipeline, and fine-tuning.

import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import cpu from "../config/train_shakespeare_char_cpu.ts";
import { configure, pick, sourceKind } from "../configurator.ts";
import { main, UserError } from "../lib/common/errors.ts";
import { isMain } from "../lib/common/main_module.ts";
import { helpAsked } from "../lib/settings/help.ts";
import type { Settings, Value } from "../lib/settings/rules.ts";
import { shownPath } from "../lib/text/dataset.ts";
import { READING } from "../lib/text/documents.ts";
import { Stopped } from "./pipeline/child.ts";
import { findPipeline } from "./pipeline/find.ts";
import {
  checkOnly,
  describePlan,
  longerCommand,
  plan,
  resumeCommand,
  runPipeline,
  type Wish,
} from "./pipeline/pipeline.ts";
import { defaultsOfTraining, oneOf } from "./pipeline/settings.ts";
import { type Context, datasetName, stages, TOKENIZERS } from "./pipeline/stages.ts";
import { readState, STAGES, type State } from "./pipeline/state.ts";

export const defaults = {
  // the text
  input_file: "", // .txt, .md, .jsonl, .json, .csv or .parquet, or a folder of them
  ...READING, // how documents are found in them
  tokenizer: "characters", // one token per character, or "gpt2" for GPT-2's byte pairs
  out_dir: "", // folder of all results; empty for one by the text's name: out-my for my.txt. Not taken from a config file
  // what to run
  resume: false, // continue in out_dir, or the one unfinished pipeline here, with its original settings unless others are given
  from: "", // run this stage and all after it again: process, optimize, train, evaluate, generate
  only: "", // run this stage again and no other
  dry_run: false, // say what would run and why, and do nothing
  // optimize: settings that are given as flags are not searched
  optimize: true, // search threads, batch_size, micro_batch_size and learning_rate; false takes the defaults
  optimize_seconds: 60, // for the search
  // train: any setting of train.ts; without a config file, config/train_shakespeare_char_cpu.ts is the base
  max_iters: 0, // steps; 0: as many tokens as in 2,000 steps of that base, half as many for a text of 15,000, a quarter for 3,750
  // generate
  start: "\n", // the text to continue, by default a line break if the text has one
  num_samples: 3,
  max_new_tokens: 500, // tokens in each sample
  temperature: 0.8, // below 1 more certain, above 1 more random
  top_k: 200, // sample from the k likeliest tokens; 0 for all of them
};

/** Settings of this call, not of the pipeline. */
const OF_THIS_CALL = ["resume", "from", "only", "dry_run", "out_dir"];

type Config = Settings & typeof defaults;

/**
 * Run the stages that aren't up to date, in config.out_dir.
 * @param file the config file that `config` is from; null for none
 * @throws UserError for a text, a folder or a setting that can't be used, or if a stage fails
 */
export async function run(config: Config, file: string | null): Promise<void> {
  const trains = defaultsOfTraining();

  // 1) the request
  const from = config.from === "" ? undefined : oneOf(STAGES, config.from, "from");
  const only = config.only === "" ? undefined : oneOf(STAGES, config.only, "only");
  if (from && only) throw new UserError("--from and --only exclude each other; give one of them");
  const outDir = folderOf(config);

  // 2) the folder's pipeline: its settings count unless others are given
  const known = readState(outDir);
  if (known && !config.resume && !from && !only) {
    const again = `add --resume=true to continue it, or --from=process to begin again`;
    throw new UserError(`${outDir} has a pipeline already; ${again}, or give another --out_dir`);
  }
  if (!known && existsSync(join(outDir, "ckpt.json"))) {
    throw new UserError(`${outDir} has a run that no pipeline made; give another --out_dir`);
  }
  const given: State["given"] = {};
  for (const [key, setting] of Object.entries(known?.given ?? {})) {
    if (file === null || setting.from === "flag") given[key] = setting;
  }
  for (const [key, value] of Object.entries(config)) {
    const from = givenBy(config, key);
    if (given[key] && sourceKind(config, key) === "environment") continue; // earlier settings override it
    if (from && !OF_THIS_CALL.includes(key))
      given[key] = { from, value: key === "input_file" ? resolve(`${value}`) : value };
  }
  const config_file = file ?? known?.config_file ?? null;
  const values = Object.entries(given).map(([key, { value }]) => [key, value as Value]);
  const settings: Config = {
    ...base(trains, config_file),
    ...defaults,
    ...Object.fromEntries(values),
  };
  if (settings.input_file === "")
    throw new UserError(`${outDir} has no pipeline yet; give a text with --input_file=my.txt`);
  const tokenizer = oneOf(TOKENIZERS, settings.tokenizer, "tokenizer");
  if (settings.architecture !== "decoder") {
    throw new UserError(
      `architecture ${settings.architecture} is for train.ts; the pipeline's model generates text: a decoder`,
    );
  }

  const context: Context = {
    outDir,
    own: { ...settings, tokenizer },
    train: pick(settings, Object.keys(trains)),
    trainDefaults: trains,
    flags: new Set(Object.keys(given).filter((key) => given[key]?.from === "flag")),
    batchSearched: searchedBefore(known, { from, only }).includes("batch_size"),
    mostTokens: cpu.max_iters * cpu.batch_size * cpu.block_size,
  };

  // 3) the plan, then the work
  const state: State = known ?? { format_version: 1, given, config_file, stages: {} };
  const wish = { from, only };
  if (only) await checkOnly(context, state, only);
  const planned = await plan(context, state, wish);
  const runs = new Set(planned.filter(({ runs }) => runs).map(({ name }) => name));
  for (const name of runs) await stages[name].check?.(context, runs);
  if (config.dry_run) {
    for (const line of await describePlan(context, state, wish)) console.log(line);
    return;
  }
  process.stdout.on("error", (error) => process.exit("code" in error && error.code === "EPIPE" ? 0 : 1));
  try {
    const ran = await runPipeline(context, { given, config_file }, wish, console.log);
    if (ran.length === 0) console.log(`\ntrain it further: ${longerCommand(outDir)}`);
    console.log(`\nall of it is in ${shownPath(outDir)}; more text: npx tsx sample.ts --out_dir=${shownPath(outDir)}`);
  } catch (error) {
    if (!(error instanceof Stopped)) throw error;
    console.log(`stopped; continue with: ${resumeCommand(outDir)}`);
    process.exitCode = error.signal === "SIGINT" ? 130 : 143;
  }
}

/** OUT_DIR: named, after the text, or of the pipeline to resume. */
function folderOf(config: Config): string {
  if (givenBy(config, "out_dir") === "flag") return config.out_dir;
  if (config.input_file !== "") return `out-${datasetName(config.input_file)}`;
  if (!config.resume && config.from === "" && config.only === "") {
    throw new UserError(
      "no text; give one with --input_file=my.txt, or --resume to continue the pipeline that is here",
    );
  }
  const found = findPipeline();
  console.log(`the pipeline in ${found}`);
  return found;
}

/** The settings of an earlier search, unless it is repeated. */
function searchedBefore(known: State | undefined, { from, only }: Wish): readonly unknown[] {
  if (only === "optimize" || from === "process" || from === "optimize") return [];
  const { searched } = known?.stages.optimize?.inputs.settings ?? {};
  return Array.isArray(searched) ? searched : [];
}

/** The default settings: without a config file the small model's. */
function base(trains: Settings, file: string | null): Settings {
  return { ...trains, ...(file === null ? pick(cpu as Settings, Object.keys(trains)) : {}), max_iters: 0 };
}

/** The config file among the arguments: its settings replace the small model's. */
function configFile(argv: readonly string[], known: Settings): string | null {
  const isValue = (before = "") =>
    /^--[^=]+$/.test(before) && typeof known[before.slice(2)] !== "boolean" && !before.startsWith("--no-");
  return argv.find((arg, i) => !arg.startsWith("-") && !isValue(argv[i - 1])) ?? null;
}

function givenBy(config: Settings, key: string): "flag" | "file" | undefined {
  const kind = sourceKind(config, key);
  if (kind === undefined) return undefined;
  return kind === "flag" || kind === "variable" ? "flag" : "file";
}

if (isMain(import.meta.url)) {
  await main(async () => {
    const usage =
      "Make a model of a text: process, optimize, train, evaluate, generate. Any setting of train.ts can be given too.";
    if (helpAsked(process.argv)) await configure(import.meta.url, defaults, { usage });
    const trains = defaultsOfTraining();
    const file = configFile(process.argv.slice(2), { ...trains, ...defaults });
    const config: Config = await configure(import.meta.url, { ...base(trains, file), ...defaults });
    await run(config, file);
  });
}
