// The five stages: their inputs, and how they run the project's own scripts. They write into OUT_DIR:
// data/, optimize.json, the checkpoint, evaluation/ and samples/. Left out: when a stage runs (pipeline.ts).

import { existsSync, rmSync, statSync } from "node:fs";
import { basename, join, parse, relative } from "node:path";
import { setImmediate } from "node:timers/promises";
import { writeJson, writeResult } from "../../lib/common/atomic.ts";
import { lastLine } from "../../lib/common/child.ts";
import { UserError } from "../../lib/common/errors.ts";
import { evaluationPath, fileNamePart, runName, samplePath } from "../../lib/common/file_names.ts";
import { whole } from "../../lib/common/format.ts";
import { startProgress } from "../../lib/common/progress.ts";
import { readJson } from "../../lib/common/read_file.ts";
import { z } from "../../lib/common/zod.ts";
import { readStart } from "../../lib/decoding/start.ts";
import { remarkOn } from "../../lib/monitor/ending.ts";
import { History, MetricsReader, readHistory } from "../../lib/monitor/metrics_file.ts";
import type { Settings } from "../../lib/settings/rules.ts";
import { shownPath } from "../../lib/text/dataset.ts";
import { READING, type Reading } from "../../lib/text/documents.ts";
import { listFiles } from "../../lib/text/input_files.ts";
import { readMeta } from "../../lib/text/meta.ts";
import { readingOf, textsOf } from "../../lib/text/own_texts.ts";
import { BETWEEN } from "../../lib/text/prepare_texts.ts";
import { countCharacters } from "../../lib/text/split_text.ts";
import { TINY_SHAKESPEARE } from "../../lib/text/tiny_shakespeare.ts";
import { checkBlockSize, TokenFile } from "../../lib/text/token_file.ts";
import { createTokenizer, type Tokenizer } from "../../lib/text/tokenizer.ts";
import { type Metadata, readMetadata } from "../../lib/training/checkpoint.ts";
import { microBatchSize } from "../../lib/training/micro_batch.ts";
import { resumeFolder } from "../../lib/training/run_checkpoint.ts";
import { type Beginning, CHECKPOINT, flagsFor } from "./beginning.ts";
import type { Runner } from "./child.ts";
import { followTraining } from "./follow.ts";
import { search } from "./search.ts";
import { type Found, flagsOf, numberOf, SEARCHED, type Searched, sized, timed, trainFlags, tried } from "./settings.ts";
import { markOf, type StageName } from "./state.ts";

export const TOKENIZERS = ["characters", "gpt2"] as const;
type TokenizerName = (typeof TOKENIZERS)[number];

/** The pipeline's own settings. */
export interface Own extends Reading {
  input_file: string;
  tokenizer: TokenizerName;
  optimize: boolean;
  optimize_seconds: number;
  start: string;
  num_samples: number;
  max_new_tokens: number;
  temperature: number;
  top_k: number;
}

/** What all stages know. */
export interface Context {
  outDir: string;
  own: Own;
  train: Settings; // train.ts's, before the search; max_iters 0 if the text decides
  trainDefaults: Settings;
  flags: ReadonlySet<string>; // keys that the user gave as flags
  mostTokens: number; // to train on if the text decides
  batchSearched: boolean; // by an earlier search: a number of steps given now refers to such batches
}

/** The context of a running stage. */
export interface Work extends Context {
  runner: Pick<Runner, "run">;
  log: string; // file for its scripts' output
  beginning: Beginning;
  say(line: string): void;
  onStart(command: string): void;
}

export interface Stage {
  /** The settings and files that determine the result; files by their names in messages. */
  inputs(context: Context): { settings: Record<string, unknown>; files: Record<string, string> };
  /** What it does or would do, in one line. */
  about(context: Context): string;
  /** Refuse what can't work, before anything is written. `runs`: the stages that will run. */
  check?(context: Context, runs: ReadonlySet<StageName>): void | Promise<void>;
  /** Its script and arguments; optimize runs many. */
  command?(context: Context, beginning: Beginning): [script: string, args: string[]];
  /** The paths of its outputs, in OUT_DIR. */
  run(work: Work): Promise<string[]>;
}

const DATA = ["train.bin", "val.bin", "meta.json"].map((name) => join("data", name));
const VAL_TEXT = join("data", "val.txt");
const FOUND = "optimize.json";

/** A stage's folder for temporary files; also of the pipeline's lock, as train.ts locks OUT_DIR itself. */
export const SCRATCH = "pipeline";

// ---- process ----

const PREPARE: Record<TokenizerName, string> = {
  characters: join("data", "shakespeare_char", "prepare.ts"), // of any text, by --input
  gpt2: join("data", "shakespeare", "prepare.ts"),
};

const PART = 1 << 16; // tokens

const process_: Stage = {
  inputs: ({ own }) => ({ settings: { tokenizer: own.tokenizer, ...readingGiven(own) }, files: textFiles(own) }),
  about: ({ own, outDir }) => `${shownPath(own.input_file)} -> ${shownPath(join(outDir, "data"))}, ${own.tokenizer}`,

  async check({ own, train }) {
    const name = shownPath(own.input_file);
    const texts = textsOf(listFiles([own.input_file], console.log), readingOf(own), TINY_SHAKESPEARE, console.log);
    let characters = 0;
    for await (const { text, begins } of texts.read())
      characters += countCharacters(text) + (begins ? BETWEEN.length : 0);
    if (characters === 0) throw new UserError(`${name} is empty; give a text file in UTF-8`);
    if (own.tokenizer !== "characters") return; // depends on the tokens
    const val = characters - Math.floor(0.9 * characters);
    const block = numberOf(train, "block_size");
    if (val > block) return;
    const sizes = `${whole(characters)} characters, of which ${whole(val)} are for validation`;
    const advice = val > 8 ? `use --block_size=${val - 1} or smaller, or a longer text` : "give a longer text";
    throw new UserError(`${name} has ${sizes}: too few for --block_size=${block}; ${advice}`);
  },

  command: ({ own, outDir }) => [
    PREPARE[own.tokenizer],
    flagsOf({ input: shownPath(own.input_file), out: join(outDir, "data"), ...readingGiven(own) }),
  ],

  async run(work) {
    const { outDir, own, runner, say } = work;
    await runner.run(...process_.command!(work, {}), work);
    const folder = join(outDir, "data");
    const meta = readMeta(folder)!;
    const tokenizer = await createTokenizer(meta);
    await checkStart(own, tokenizer);
    writeResult(join(outDir, VAL_TEXT), await decodeFile(join(folder, "val.bin"), tokenizer)); // for evaluate
    const [train, val] = [meta.train_tokens!, meta.val_tokens!].map(whole);
    say(`vocabulary of ${whole(meta.vocab_size)}; ${train} tokens to train on, ${val} for validation`);
    return [...DATA, VAL_TEXT];
  },
};

/** The text of a token file, in parts, with signals handled in between. */
async function decodeFile(path: string, tokenizer: Tokenizer): Promise<string> {
  const file = new TokenFile(path);
  const decoder = tokenizer.decoder();
  let text = "";
  for (let at = 0; at < file.length; at += PART) {
    const part = new Int32Array(Math.min(PART, file.length - at));
    file.read(at, part.length, part);
    for (const token of part) text += decoder.push(token);
    await setImmediate();
  }
  file.close();
  return text + decoder.end();
}

// ---- optimize ----

const optimize: Stage = {
  inputs(context) {
    const { own, train, outDir } = context;
    const keys = searchedOf(context);
    const { optimize_seconds } = own;
    return {
      settings: keys.size === 0 ? { searched: [] } : { searched: [...keys], optimize_seconds, ...tried(train) },
      files: keys.size === 0 ? {} : dataFiles(outDir),
    };
  },
  about(context) {
    const keys = [...searchedOf(context)];
    if (!context.own.optimize) return "nothing: --optimize=false";
    if (keys.length === 0) return `nothing: all that it searches is given`;
    return `${keys.join(", ")}, in ${context.own.optimize_seconds} s`;
  },

  async run(work) {
    const { own, train, trainDefaults, outDir, runner, log, say, onStart } = work;
    const dataset = join(outDir, "data");
    const val = new TokenFile(join(dataset, "val.bin"));
    try {
      checkBlockSize(val, numberOf(train, "block_size"));
    } finally {
      val.close();
    }
    const keys = searchedOf(work);
    const [batch, block] = [numberOf(train, "batch_size"), numberOf(train, "block_size")];
    const trial = join(outDir, SCRATCH, "trial");
    const bar = startProgress(own.optimize_seconds, 0, say);
    const began = performance.now();
    const show = (note: string) =>
      bar.update(Math.min(own.optimize_seconds, Math.round((performance.now() - began) / 1000)), note);
    const result = await search({
      searched: keys,
      start: {
        threads: numberOf(train, "threads") || (await import("../../lib/engine/runtime/device.ts")).defaultThreads(),
        batch_size: batch,
        micro_batch_size: microBatchSize(batch, block, numberOf(train, "micro_batch_size")),
        learning_rate: numberOf(train, "learning_rate"),
      },
      tokens: block * numberOf(train, "gradient_accumulation_steps"),
      eval_iters: numberOf(train, "eval_iters"),
      most_steps: Math.min(1000, numberOf(trainSettings(work, {}), "max_iters")),
      seconds: own.optimize_seconds,
      async stepTime(candidate, steps) {
        show(`speed of ${shortly(candidate)}`);
        const fixed = { benchmark: "training_throughput", json: true, results: "", dataset, steps, warmup: 3 };
        const settings = timed({ ...train, ...candidate });
        const stdout = await runner.run("bench.ts", flagsOf({ ...fixed, ...settings }), { log, onStart });
        return z.object({ ms_median: z.number() }).parse(JSON.parse(lastLine(stdout))).ms_median;
      },
      async train(candidate, steps) {
        show(`training with ${shortly(candidate)}`);
        rmSync(trial, { recursive: true, force: true });
        const schedule = { max_iters: steps, eval_interval: steps, log_interval: steps, lr_decay_iters: steps };
        const base = { ...tried(train), ...schedule };
        const settings = sized(base, new Set(Object.keys(schedule)), candidate, 0, 0);
        const args = [...flagsOf({ out_dir: trial, dataset }), ...trainFlags(settings, trainDefaults)];
        const history = () => new History().add(new MetricsReader(trial).read()); // empty if it failed at the start
        const diverged = await runner.run("train.ts", args, { log, onStart }).then(
          () => false,
          (error) => {
            if (error instanceof UserError && history().end?.diverged) return true;
            throw error;
          },
        );
        if (diverged) return Number.NaN; // too high a learning rate is a result, too
        const losses = history().series.get("val/loss");
        if (losses?.iters.at(-1) !== steps) throw new Error(`internal: no loss of step ${steps} in ${trial}`);
        return losses.values.at(-1)!;
      },
      say: (line) => bar.log(line),
    }).finally(() => {
      bar.stop();
      rmSync(trial, { recursive: true, force: true });
    });
    writeJson(join(outDir, FOUND), result);
    const better = Object.keys(result.found).length > 0;
    if (keys.size > 0) say(better ? `found: ${inWords(result.found)}` : "nothing tried is better than the defaults");
    return [FOUND];
  },
};

function searchedOf({ own, train, flags, batchSearched }: Context): Set<Searched> {
  // a number of steps refers to batches: with other ones it would be a different training
  const steps = train.max_iters !== 0 && !batchSearched;
  const fixed = (key: Searched) => flags.has(key) || (key === "batch_size" && steps);
  return new Set(own.optimize ? SEARCHED.filter((key) => !fixed(key)) : []);
}

/** Fitting a progress bar. */
function shortly({ threads, batch_size, micro_batch_size, learning_rate }: Found): string {
  return `${threads} threads, batch ${batch_size} (${micro_batch_size} at once), rate ${learning_rate}`;
}

function inWords(found: Found): string {
  return Object.entries(found)
    .map(([key, value]) => `${key} ${value}`)
    .join(", ");
}

// ---- train ----

const train: Stage = {
  inputs: (context) => ({ settings: trainSettings(context), files: dataFiles(context.outDir) }),
  about(context) {
    const settings = trainSettings(context);
    const shape = `${settings.n_layer} layers, ${settings.n_head} heads, ${settings.n_embd} wide`;
    const steps = isSized(context) ? `${settings.max_iters} steps` : "as many steps as the text asks for";
    return `${steps} of ${settings.batch_size} x ${settings.block_size} tokens; ${shape}`;
  },

  command: (context, beginning) => [
    "train.ts",
    [
      ...flagsOf({ out_dir: context.outDir, dataset: join(context.outDir, "data") }),
      ...flagsFor(
        isSized(context) ? trainSettings(context) : context.train,
        context.trainDefaults,
        context.outDir,
        beginning,
      ),
    ],
  ],

  async run(work) {
    const { outDir, runner, beginning, say } = work;
    const { from, replaces, why } = beginning;
    const settings = trainSettings(work);
    const checkpoint = join(outDir, CHECKPOINT);
    if (from !== undefined) say(`resuming from ${shownPath(join(resumeFolder(outDir), CHECKPOINT))}, step ${from}`);
    if (replaces) say(`from the start: ${why}; the old checkpoint is kept until there is a newer one`);
    const bar = startProgress(numberOf(settings, "max_iters"), from ?? 0, say);
    const unfollow = followTraining(outDir, bar);
    try {
      await runner.run(...train.command!(work, beginning), { ...work, bar });
    } finally {
      unfollow();
      bar.stop();
    }
    const mark = await markOf(checkpoint);
    if (mark === null || mark.sha256 === replaces?.sha256) {
      throw new UserError(
        `training left no checkpoint (all it printed is in ${work.log}); run it again with --from=train`,
      );
    }
    const metadata = readMetadata(outDir);
    for (const line of lesson(readHistory(outDir), metadata, numberOf(settings, "max_iters"))) say(line);
    return [CHECKPOINT, metadata.weights.file];
  },
};

/** Remarks on unusual validation losses, and on the model that is kept. */
export function lesson(
  { series }: Pick<History, "series">,
  { iter_num, best_val_loss }: Pick<Metadata, "iter_num" | "best_val_loss">,
  steps: number,
): string[] {
  const losses = series.get("val/ema_loss") ?? series.get("val/loss");
  const remark = losses && remarkOn(losses);
  return [
    ...(remark === undefined ? [] : [remark]),
    ...(iter_num < steps
      ? [`the model is that of step ${iter_num}; the lowest validation loss was ${best_val_loss?.toFixed(4)}`]
      : []),
  ];
}

/** Is the length of training known? Only after the text has been counted. */
function isSized({ train, outDir }: Context): boolean {
  return train.max_iters !== 0 || existsSync(join(outDir, "data", "meta.json"));
}

/** All settings for train.ts, except folders. */
function trainSettings({ train, flags, outDir, mostTokens }: Context, found = readFound(outDir)): Settings {
  const kept = Object.entries(found).filter(([key]) => !flags.has(key));
  const meta = readMeta(join(outDir, "data"));
  return sized(train, flags, Object.fromEntries(kept), meta?.train_tokens ?? 0, mostTokens);
}

const FoundFile = z.object({ found: z.partialRecord(z.enum(SEARCHED), z.number()) });

/** The results of optimize; none if it hasn't run. */
function readFound(outDir: string): Found {
  const path = join(outDir, FOUND);
  const again = "remove it, and --resume=true makes it again";
  const file = readJson(path, FoundFile, (why) => {
    return new UserError(`${shownPath(path)} is not a result of optimize (${why}); ${again}`);
  });
  return file?.found ?? {};
}

// ---- evaluate ----

const Figures = z.looseObject({ tokens: z.int(), loss: z.number(), perplexity: z.number(), bits_per_byte: z.number() });

const evaluate: Stage = {
  inputs: ({ outDir }) => ({
    settings: {},
    files: { [CHECKPOINT]: join(outDir, CHECKPOINT), [VAL_TEXT]: join(outDir, VAL_TEXT) },
  }),
  about: ({ outDir }) => `how well the checkpoint predicts ${shownPath(join(outDir, VAL_TEXT))}`,

  command: ({ outDir, own, train, trainDefaults }) => {
    const given = { ...lineEnds(own), ...system(train, trainDefaults) };
    return ["sample.ts", flagsOf({ out_dir: outDir, evaluate: join(outDir, VAL_TEXT), json: true, ...given })];
  },

  async run(work) {
    const { outDir, own, runner, say } = work;
    const figures = Figures.parse(JSON.parse(lastLine(await runner.run(...evaluate.command!(work, {}), work))));
    const { iter_num } = readMetadata(outDir);
    const dataset = datasetName(own.input_file);
    const name = runName(outDir);
    const date = new Date();
    const path = evaluationPath(outDir, dataset, date);
    const result = { name, dataset, split: "val", date: date.toISOString(), iter_num, ...figures };
    writeJson(path, result);
    say(
      `${whole(figures.tokens)} tokens: loss ${figures.loss.toFixed(4)}, perplexity ${figures.perplexity.toFixed(3)}, ${figures.bits_per_byte.toFixed(3)} bits per byte`,
    );
    say(`-> ${shownPath(path)}`);
    return [relative(outDir, path)];
  },
};

// ---- generate ----

/** The default of sample.ts: a line break, or a similar token of the text. */
const DEFAULT_START = "\n";

/** Refuse a prompt that sample.ts would refuse after training, as far as the tokens are known. */
async function checkStart({ start, keep_crlf }: Own, tokenizer: Tokenizer | undefined): Promise<void> {
  if (start === DEFAULT_START) return;
  if (start === "-")
    throw new UserError("--start=- reads standard input, which a pipeline doesn't; use --start=FILE:my.txt");
  const text = await readStart(start, { keep_crlf, log() {} }); // sample.ts reports it
  if (text === "") throw new UserError("--start is empty; give at least one character to continue");
  try {
    tokenizer?.encode(text, { special: true });
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    throw new UserError(`--start: ${error.message}`, { cause: error });
  }
}

const generate: Stage = {
  inputs: ({ own, train, outDir }) => {
    const { start, num_samples, max_new_tokens, temperature, top_k } = own;
    return {
      settings: { start, num_samples, max_new_tokens, temperature, top_k, seed: train.seed },
      files: { [CHECKPOINT]: join(outDir, CHECKPOINT) },
    };
  },
  about: ({ own: { num_samples, max_new_tokens, start } }) =>
    `${num_samples} x ${max_new_tokens} tokens${start === DEFAULT_START ? "" : ` after ${JSON.stringify(start)}`}`,

  async check({ own, outDir }, runs) {
    const meta = runs.has("process") ? undefined : readMeta(join(outDir, "data"));
    await checkStart(own, meta && (await createTokenizer(meta)));
  },

  command({ outDir, own, train, trainDefaults }) {
    const { start, num_samples, max_new_tokens, temperature, top_k } = own;
    const sampling = { num_samples, max_new_tokens, temperature, top_k, seed: train.seed! };
    const prompt: Settings = start === DEFAULT_START ? {} : { start }; // the default depends on the vocabulary
    return [
      "sample.ts",
      flagsOf({ out_dir: outDir, ...prompt, ...sampling, ...lineEnds(own), ...system(train, trainDefaults) }),
    ];
  },

  async run(work) {
    const { outDir, runner, say } = work;
    const text = await runner.run(...generate.command!(work, {}), work);
    const path = samplePath(outDir);
    writeResult(path, text);
    const lines = (text.split(/^-{15}$/m)[0] ?? "").split("\n").filter((line) => line.trim() !== ""); // of the first one
    for (const line of lines.slice(0, 8)) say(`| ${line.slice(0, 100)}`);
    say(`-> ${shownPath(path)}`);
    return [relative(outDir, path)];
  },
};

export const stages: Record<StageName, Stage> = { process: process_, optimize, train, evaluate, generate };

/** System settings for sample.ts, if the user changed them. */
function system({ device, threads, compile }: Settings, defaults: Settings): Settings {
  const given = Object.entries({ device: device!, threads: threads!, compile: compile! });
  return Object.fromEntries(given.filter(([key, value]) => value !== defaults[key]));
}

/** Settings of reading the text that aren't defaults, so that earlier pipelines' inputs stay the same. */
function readingGiven({ field, separator, skip_bad, keep_crlf }: Own): Settings {
  const given = Object.entries({ field, separator, skip_bad, keep_crlf });
  return Object.fromEntries(given.filter(([key, value]) => value !== READING[key as keyof Reading]));
}

/** The text's file, or all files of a folder. */
function textFiles({ input_file }: Own): Record<string, string> {
  if (!statSync(input_file, { throwIfNoEntry: false })?.isDirectory()) return { "the text": input_file };
  return Object.fromEntries(listFiles([input_file]).map(({ path }) => [shownPath(path), path]));
}

function lineEnds({ keep_crlf }: Own): Settings {
  return keep_crlf ? { keep_crlf } : {};
}

function dataFiles(outDir: string): Record<string, string> {
  return Object.fromEntries(DATA.map((name) => [name, join(outDir, name)]));
}

/** A text's name without its ending, fit for file names. */
export function datasetName(path: string): string {
  return fileNamePart(parse(basename(path)).name) || "text";
}
