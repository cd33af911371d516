// The real scripts on a real text: prepare, train until the model knows more than pairs of characters, sample, bench.
// Run: npm test -- test_integration.ts (a minute). The text is tinyshakespeare where it is on this machine; else one is
// made, so that everything but the known counts is tested all the same.

import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { keyOf, uniform } from "./lib/common/rng.ts";
import { sha256 } from "./lib/text/text.ts";
import { TINY_SHAKESPEARE } from "./lib/text/tiny_shakespeare.ts";
import { flags, once, oneProcess, ROOT, succeed, temporaryFolder } from "./tests/scripts.ts";

const FOLDER = temporaryFolder();
const runHere = oneProcess();
const DATA = join(FOLDER, "data");
const OUT = join(FOLDER, "out");

const places = [
  join(ROOT, "..", "shared", "data", "tinyshakespeare.txt"),
  join(ROOT, "data/shakespeare_char/input.txt"),
];
const found = places.find((path) => existsSync(path));
const INPUT = found ?? join(FOLDER, "input.txt");
if (found === undefined) writeFileSync(INPUT, madeUpPlay(300_000));
const TEXT = readFileSync(INPUT, "utf8");
const IS_SHAKESPEARE = sha256(readFileSync(INPUT)) === TINY_SHAKESPEARE.sha256;

/** Words that a seed made up, some far more frequent than others: learnable, but not from pairs of characters alone. */
function madeUpPlay(length: number): string {
  const key = keyOf("play");
  let drawn = 0;
  const random = (n: number) => Math.floor(uniform(key, drawn++) * n);
  const letters = "abcdefghijklmnopqrstuvwxyz";
  const words = Array.from({ length: 60 }, () =>
    Array.from({ length: 3 + random(6) }, () => letters[random(26)]).join(""),
  );
  let text = "";
  while (text.length < length) text += words[random(1 + random(60))] + (random(8) === 0 ? ".\n" : " ");
  return text.slice(0, length);
}

function tokensOf(file: string): Uint16Array {
  const bytes = readFileSync(join(DATA, file));
  return new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2);
}

/** The mean loss on val.bin of a model that has counted in train.bin which character follows which. */
function bigramLoss(vocabulary: number): number {
  const pairs = new Float64Array(vocabulary * vocabulary).fill(0.1); // so that nothing is impossible
  const [train, val] = [tokensOf("train.bin"), tokensOf("val.bin")];
  for (let i = 1; i < train.length; i++) pairs[train[i - 1]! * vocabulary + train[i]!]!++;
  const sums = Array.from({ length: vocabulary }, (_, a) =>
    pairs.subarray(a * vocabulary, (a + 1) * vocabulary).reduce((sum, count) => sum + count, 0),
  );
  let loss = 0;
  for (let i = 1; i < val.length; i++)
    loss -= Math.log(pairs[val[i - 1]! * vocabulary + val[i]!]! / sums[val[i - 1]!]!);
  return loss / (val.length - 1);
}

const vocabulary = new Set(TEXT).size;

const prepared = once(() => succeed("data/shakespeare_char/prepare.ts", flags({ input: INPUT, out: DATA })));

/** A model in OUT. */
const trained = once(async () => {
  await prepared();
  return succeed(
    "train.ts",
    flags({
      dataset: DATA,
      out_dir: OUT,
      n_layer: 3,
      n_head: 3,
      n_embd: 96,
      block_size: 32,
      batch_size: 16,
      gradient_accumulation_steps: 1,
      learning_rate: 3e-3,
      min_lr: 3e-4,
      beta2: 0.99,
      warmup_iters: 20,
      lr_decay_iters: 400,
      max_iters: 400,
      eval_interval: 400,
      eval_iters: 50,
      log_interval: 100,
      threads: 1, // another test file runs beside this one
    }),
  );
});

test("prepare", async () => {
  const stdout = await prepared();
  assert.equal(JSON.parse(readFileSync(join(DATA, "meta.json"), "utf8")).vocab_size, vocabulary);
  assert.equal(tokensOf("train.bin").length + tokensOf("val.bin").length, TEXT.length);
  if (IS_SHAKESPEARE) {
    assert.match(stdout, /^vocab_size: 65\ntrain\.bin: +1,003,854 tokens\nval\.bin: +111,540 tokens$/m);
  }
});

test("training beats the best that pairs of characters allow", async () => {
  const stdout = await trained();
  const [first, last] = [...stdout.matchAll(/^step \d+: train loss (\S+), val loss (\S+)$/gm)];
  const [before, train, val] = [Number(first?.[2]), Number(last?.[1]), Number(last?.[2])];
  const pairs = bigramLoss(vocabulary);
  assert.ok(Math.abs(before - Math.log(vocabulary)) < 0.15, `a new model knows nothing, yet its loss is ${before}`);
  // Measured on tinyshakespeare: single characters 3.35, pairs 2.48, this model 2.25. A model blind to
  // all but the last character can't get below the pairs.
  assert.ok(val < pairs - 0.15, `val loss ${val}; counting pairs reaches ${pairs}`);
  assert.ok(val < train + 0.3, `train ${train}, val ${val}: the splits are mixed up`);
  assert.ok(val > 0.5, `val loss ${val} is too good: the model sees what it should predict`);
});

test("samples are made of the vocabulary, and are a function of the seed", async () => {
  const sample = async (seed: number) => {
    const settings = { out_dir: OUT, start: "\n", num_samples: 2, max_new_tokens: 150, seed };
    const ended = await runHere("sample.ts", flags(settings));
    assert.equal(ended.code, 0, ended.stderr);
    return ended.stdout;
  };
  await trained();
  const [one, again, other] = [await sample(1), await sample(1), await sample(2)];
  assert.equal(one, again);
  assert.notEqual(one, other);
  const samples = one.split("\n---------------\n");
  assert.deepEqual(
    samples.map((text) => text.length),
    [151, 151, 0],
  );
  for (const character of samples.join("")) assert.ok(TEXT.includes(character), JSON.stringify(character));
  // a model that has learned writes blanks about as often as the text does
  const share = (text: string) => text.split(/\s/).length / text.length;
  assert.ok(Math.abs(share(samples.join("")) - share(TEXT)) < 0.08, one);
});

test("eval_only says what the checkpoint is worth", async () => {
  await trained();
  const settings = { dataset: DATA, out_dir: OUT, batch_size: 16, eval_iters: 50, eval_only: true };
  const stdout = await succeed("train.ts", flags({ ...settings, init_from: "resume", gradient_accumulation_steps: 1 }));
  const saved = JSON.parse(readFileSync(join(OUT, "ckpt.json"), "utf8")).best_val_loss;
  assert.match(stdout, new RegExp(`^step 400: train loss \\d\\.\\d{4}, val loss ${saved.toFixed(4)}$`, "m"));
  assert.doesNotMatch(stdout, /^iter/m);
});

test("weights in 8 bits cost less than 1 % of perplexity", async () => {
  const evaluate = async (dtype: string) => {
    const settings = { out_dir: OUT, evaluate: join(FOLDER, "text.txt"), json: true, dtype };
    const ended = await runHere("sample.ts", flags(settings));
    assert.equal(ended.code, 0, ended.stderr);
    return JSON.parse(ended.stdout).perplexity as number;
  };
  await trained();
  writeFileSync(join(FOLDER, "text.txt"), TEXT.slice(-8000));
  const [float32, int8] = [await evaluate("float32"), await evaluate("int8")];
  assert.ok(float32 > 2 && float32 < Math.exp(bigramLoss(vocabulary)), `perplexity ${float32}`);
  assert.notEqual(int8, float32);
  assert.ok(Math.abs(int8 / float32 - 1) < 0.01, `perplexity ${int8}, in float32 ${float32}`);
});

const TINY = { n_layer: 1, n_head: 2, n_embd: 32, block_size: 16, batch_size: 4, gradient_accumulation_steps: 1 };

test("the uncompiled model has the same losses", async () => {
  const losses = async (compile: boolean) => {
    await prepared();
    const settings = { ...TINY, dataset: DATA, out_dir: join(FOLDER, `out_${compile}`), compile, dropout: 0.1 };
    const steps = { max_iters: 10, warmup_iters: 0, learning_rate: 1e-2, eval_interval: 10, eval_iters: 2 };
    const stdout = await succeed("train.ts", flags({ ...settings, ...steps }));
    assert.match(stdout, compile ? /^device: cpu, compiled/m : /^device: eager/m);
    const lines = [...stdout.matchAll(/^(?:iter|step) \d+: .*/gm)].join("\n"); // without the last ones, which sum it up
    return [...lines.matchAll(/loss (\d+\.\d+)/g)].map(([, loss]) => Number(loss));
  };
  const [compiled, eager] = [await losses(true), await losses(false)];
  assert.equal(compiled.length, 14); // two evaluations of two numbers, ten steps
  for (const [i, loss] of compiled.entries()) assert.ok(Math.abs(loss - eager[i]!) <= 1.01e-4, `${compiled}\n${eager}`);
  assert.ok(compiled.at(-1)! < compiled[0]! - 0.2, "so little was learned that every model has the same losses");
});

test("bench ends with a line of JSON that has every figure", async () => {
  await prepared();
  const stdout = await succeed(
    "bench.ts",
    flags({ ...TINY, dataset: DATA, steps: 4, warmup: 1, threads: 1, json: true }),
  );
  const result = JSON.parse(stdout.trimEnd().split("\n").at(-1)!);
  for (const key of "ms_median ms_min tokens_per_s gflops mfu peak_rss_mb compile_ms loss params".split(" ")) {
    assert.ok(Number.isFinite(result[key]) && result[key] > 0, `${key} is ${result[key]}`);
  }
  assert.ok(result.ms_min <= result.ms_median);
  assert.ok(Math.abs(result.tokens_per_s / ((4 * 16) / (result.ms_median / 1000)) - 1) < 0.01);
  assert.ok(Math.abs(result.loss - Math.log(vocabulary)) < 0.5);
  // 12 n_embd^2 weights a layer and two norms each, the last norm, the tables of tokens and places
  assert.equal(result.params, TINY.n_layer * (12 * 32 ** 2 + 2 * 32) + 32 + vocabulary * 32 + 16 * 32);
  assert.match(result.device, /^cpu, compiled \(onnxruntime/);
  const { threads, steps, warmup, vocab_size } = result;
  assert.deepEqual({ threads, steps, warmup, vocab_size }, { threads: 1, steps: 4, warmup: 1, vocab_size: vocabulary });
  for (const [key, value] of Object.entries(TINY)) assert.equal(result[key], value, key);
});
