// What the stages refuse before anything is written, and what they call things.

import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join, parse } from "node:path";
import { test } from "node:test";
import { defaults as benchDefaults } from "../../../bench.ts";
import { UserError } from "../../../lib/common/errors.ts";
import { METRICS_FILE } from "../../../lib/monitor/metrics_file.ts";
import type { Settings, Value } from "../../../lib/settings/rules.ts";
import { READING } from "../../../lib/text/documents.ts";
import { defaultsOfTraining, SEARCHED } from "../../../tools/pipeline/settings.ts";
import { type Context, datasetName, lesson, stages } from "../../../tools/pipeline/stages.ts";
import { STAGES } from "../../../tools/pipeline/state.ts";
import { defaults as trainDefaults } from "../../../train.ts";
import { madeUpText, temporaryFolder, tinyDataset } from "../../scripts.ts";

const FOLDER = temporaryFolder();
const ALL = new Set(STAGES);
const OWN = {
  ...READING,
  optimize: true,
  optimize_seconds: 60,
  start: "\n",
  num_samples: 1,
  max_new_tokens: 1,
  temperature: 1,
  top_k: 0,
};

function context(input_file: string, tokenizer: "characters" | "gpt2" = "characters"): Context {
  const train = { block_size: 64, max_iters: 0 };
  const own = { ...OWN, input_file, tokenizer };
  return {
    outDir: join(FOLDER, "out"),
    own,
    train,
    trainDefaults: train,
    flags: new Set(),
    mostTokens: 1,
    batchSearched: false,
  };
}

test("a text that can't be trained on is refused in one line", async () => {
  for (const [name, content, message] of [
    ["empty.txt", "", /empty\.txt is empty/],
    ["zero.txt", "text\0text", /zero\.txt is not text: it has a zero byte at offset 4/],
    ["latin.txt", Uint8Array.of(0x66, 0xfc, 0x72, 0x20), /not UTF-8 text: bad byte at offset 1/],
    [
      "short.txt",
      madeUpText(300),
      /30 are for validation: too few for --block_size=64; use --block_size=29 or smaller/,
    ],
    ["word.txt", "a word", /too few for --block_size=64; give a longer text/],
  ] as const) {
    const path = join(FOLDER, name);
    writeFileSync(path, content);
    const refused = (error: unknown) =>
      error instanceof UserError && message.test(error.message) && !error.message.includes("\n");
    await assert.rejects(async () => stages.process.check!(context(path), ALL), refused, name);
  }
  assert.ok(!readdirSync(FOLDER).includes("out"));
});

test("the shortest text that will do is taken", async () => {
  const path = join(FOLDER, "enough.txt");
  writeFileSync(path, "ä".repeat(650)); // 65 characters for validation: 64 and the one that follows them
  await stages.process.check!(context(path), ALL);
  writeFileSync(path, "ä".repeat(640));
  await assert.rejects(async () => stages.process.check!(context(path), ALL), UserError);
});

test("a table is read by its field, not as raw text, and a folder by its files", async () => {
  const folder = join(FOLDER, "rows");
  mkdirSync(folder);
  for (const name of ["a.jsonl", "b.jsonl"]) {
    writeFileSync(join(folder, name), `${JSON.stringify({ body: "ä".repeat(400) })}\n{"body": null}\n`);
  }
  const { process } = stages;
  const some = context(folder);
  await assert.rejects(async () => process.check!(some, ALL), /has no field "text"; it has body: .*--field=body/);
  const own = { ...some.own, field: "body", skip_bad: true };
  await process.check!({ ...some, own }, ALL);
  const { settings, files } = process.inputs({ ...some, own });
  assert.deepEqual(settings, { tokenizer: "characters", field: "body", skip_bad: true });
  assert.deepEqual(Object.values(files), [join(folder, "a.jsonl"), join(folder, "b.jsonl")]);
  const [, args] = process.command!({ ...some, own }, {});
  assert.deepEqual(args.slice(2), ["--field=body", "--skip_bad=true"]);
  assert.deepEqual(process.inputs(some).settings, { tokenizer: "characters" }); // as earlier pipelines have it
});

test("a prompt that could not be written after training is refused before it", async () => {
  const some = context(join(FOLDER, "any.txt"));
  mkdirSync(join(some.outDir, "data"), { recursive: true });
  const itos = [..."abc"];
  const stoi = Object.fromEntries(itos.map((character, id) => [character, id]));
  writeFileSync(join(some.outDir, "data", "meta.json"), JSON.stringify({ kind: "char", vocab_size: 3, itos, stoi }));
  writeFileSync(join(FOLDER, "prompt.txt"), "ab?");
  const check = async (start: string) => {
    await stages.generate.check!({ ...some, own: { ...some.own, start } }, new Set(["train", "generate"]));
  };
  for (const [start, message] of [
    ["a?", /^--start: no token for the character "\?"/],
    [`FILE:${join(FOLDER, "prompt.txt")}`, /^--start: no token for the character "\?"/],
    [`FILE:${join(FOLDER, "none.txt")}`, /no file .*none\.txt/],
    ["-", /standard input/],
    ["", /--start is empty/],
  ] as const) {
    await assert.rejects(check(start), (error) => error instanceof UserError && message.test(error.message), start);
  }
  await check("ab");
  await check("\n"); // the default: sample.ts begins with what there is
  rmSync(some.outDir, { recursive: true });
});

test("what is unusual about the validation loss, and which step's model is kept where it isn't the last", () => {
  const said = (iters: number[], values: number[], iter_num: number) => {
    const best_val_loss = Math.min(...values);
    return lesson({ series: new Map([["val/loss", { iters, values }]]) }, { iter_num, best_val_loss }, 20);
  };
  const [never, kept] = said([0, 10, 20], [3.9, 5.8, 4.2], 10);
  assert.match(never!, /never below that of step 0 \(3\.9000 at step 0, at best 4\.2000 at step 20\)/);
  assert.equal(kept, "the model is that of step 10; the lowest validation loss was 3.9000");
  assert.deepEqual(said([0, 10, 20], [3.9, 3.8, 4.2], 10), [
    "the model is that of step 10; the lowest validation loss was 3.8000",
  ]);
  assert.deepEqual(said([15, 20], [4, 4.1], 20), [], "resumed: step 0 is unknown");
});

test("a text's name is fit for file names", () => {
  assert.equal(datasetName("a/b/my.txt"), "my");
  assert.equal(datasetName("Über uns (2).md"), "Über-uns-2-");
  assert.equal(datasetName("archive.tar.txt"), "archive.tar");
});

test("optimize searches what isn't given, and no batch size where the number of steps is", () => {
  const searched = (flags: string[], optimize = true, max_iters = 0, batchSearched = false) => {
    const some = context(join(FOLDER, "any.txt"));
    some.train.max_iters = max_iters;
    const { settings } = stages.optimize.inputs({
      ...some,
      own: { ...some.own, optimize },
      flags: new Set(flags),
      batchSearched,
    });
    return settings.searched;
  };
  assert.deepEqual(searched([]), ["threads", "batch_size", "micro_batch_size", "learning_rate"]);
  assert.deepEqual(searched(["learning_rate", "n_layer"]), ["threads", "batch_size", "micro_batch_size"]);
  assert.deepEqual(searched([], true, 20), ["threads", "micro_batch_size", "learning_rate"]);
  assert.deepEqual(searched([], true, 20, true), searched([]), "steps that are given after a search mean its batches");
  assert.deepEqual(searched([], false), []);
});

/** Settings of train.ts that a trial of optimize has none or others of; all others are those of the training itself. */
const NOT_OF_TRIALS = [
  ...["out_dir", "dataset", "init_from", "eval_only", "eval_interval", "log_interval", "always_save_checkpoint"],
  ...["callbacks", "stats_interval", "sample_interval", "tensorboard", "histogram_interval", "mlflow_uri"],
  ...["wandb_log", "wandb_project", "wandb_run_name"],
  ...["early_stop_patience", "lr_patience", "lr_factor", "spike_threshold", "rollback"],
  ...["max_iters", "lr_decay_iters"],
];

test("optimize tries the model and the optimizer that will be trained: every other setting reaches its trials", async () => {
  // 1) every setting another than its default
  const other = (value: Value): Value => {
    if (typeof value === "boolean") return !value;
    return typeof value === "number" ? value + 1 : typeof value === "string" ? `${value}x` : ["x"];
  };
  const defaults = defaultsOfTraining();
  const changed = Object.fromEntries(Object.entries(defaults).map(([key, value]) => [key, other(value)]));
  const train: Settings = { ...changed, block_size: 16 }; // what fits the data
  const outDir = join(FOLDER, "trials");
  const { dir } = parse(tinyDataset(FOLDER));
  mkdirSync(outDir);
  renameSync(join(dir, "words"), join(outDir, "data"));

  // 2) what would be run
  const calls: { script: string; given: Record<string, string> }[] = [];
  const run = async (script: string, args: readonly string[]) => {
    const given = Object.fromEntries(args.map((arg) => arg.slice(2).split("=") as [string, string]));
    calls.push({ script, given });
    if (script === "bench.ts") return JSON.stringify({ ms_median: 1 });
    const start = { event: "start", time: 1, iter: 0, resumed: false, name: "x", pid: 1, config: {}, facts: {} };
    const losses = { "train/loss": 2, "val/loss": 2.1, "val/ema_loss": 2.5 };
    const lines = [start, { event: "evaluate", time: 2, iter: Number(given.max_iters), ...losses }];
    mkdirSync(given.out_dir!, { recursive: true });
    writeFileSync(join(given.out_dir!, METRICS_FILE), lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
    return "";
  };
  const own = { ...OWN, input_file: "", tokenizer: "characters" as const };
  const known = {
    outDir,
    own,
    train,
    trainDefaults: defaults,
    flags: new Set<string>(),
    mostTokens: 1e6,
    batchSearched: false,
  };
  const context: Context = { ...known, own: { ...own, optimize_seconds: 5 } };
  const work = { runner: { run }, log: join(outDir, "log"), beginning: {}, say() {}, onStart() {} };
  await stages.optimize.run({ ...context, ...work });

  // 3) each of them has all that isn't named above, with its value where it isn't searched or fitted to the steps
  const fitted: readonly string[] = [...SEARCHED, "warmup_iters", "min_lr"];
  for (const [script, known] of Object.entries({ "train.ts": trainDefaults, "bench.ts": benchDefaults })) {
    const runs = calls.filter((call) => call.script === script);
    assert.ok(runs.length > 0, script);
    const shared = Object.keys(trainDefaults).filter(
      (key) => !NOT_OF_TRIALS.includes(key) && Object.hasOwn(known, key),
    );
    for (const { given } of runs) {
      assert.deepEqual(
        shared.filter((key) => given[key] === undefined),
        [],
        `${script} is not told`,
      );
      for (const key of shared) if (!fitted.includes(key)) assert.equal(given[key], `${train[key]}`, key);
    }
  }
  for (const key of ["n_kv_head", "ffn", "optimizer", "grad_checkpoint"]) assert.ok(key in benchDefaults);
  const { tried } = JSON.parse(readFileSync(join(outDir, "optimize.json"), "utf8"));
  const losses = tried.flatMap(({ val_loss }: { val_loss?: number | null }) =>
    val_loss === undefined ? [] : val_loss,
  );
  assert.deepEqual([...new Set(losses)], [2.1], "of the weights themselves: a short run's average is of its start");
  for (const key of NOT_OF_TRIALS) assert.ok(Object.hasOwn(trainDefaults, key), `${key} is no setting of train.ts`);

  // 4) and it runs again when one of them changes, not when another does
  const inputs = (settings: Settings) => stages.optimize.inputs({ ...context, train: { ...train, ...settings } });
  assert.notDeepEqual(inputs({ pos: "rotary" }), inputs({ pos: "alibi" }));
  assert.deepEqual(inputs({ tensorboard: false }), inputs({ tensorboard: true }));

  // 5) a trial that is refused before it trains, and so leaves no history, fails with its own words
  const refused = async (script: string, args: readonly string[]) => {
    if (script === "train.ts") throw new UserError("too little memory");
    return run(script, args);
  };
  await assert.rejects(
    stages.optimize.run({ ...context, ...work, runner: { run: refused } }),
    /^UserError: too little/,
  );
});
