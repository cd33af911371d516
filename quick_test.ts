// The whole thing in seconds: prepare, train, resume, sample and some mistakes, with the real scripts on a made-up text.
// Run: npm test -- quick_test.ts. Whether it learns anything is test_integration.ts's to see.

import assert from "node:assert/strict";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { loadCheckpoint } from "./lib/training/checkpoint.ts";
import {
  assertRefused,
  contentsOf,
  flags,
  madeUpText,
  once,
  oneProcess,
  run,
  succeed,
  temporaryFolder,
} from "./tests/scripts.ts";

const FOLDER = temporaryFolder();
const here = { cwd: FOLDER };
const TEXT = madeUpText(5000);

const TRAIN = flags({
  dataset: "./data",
  n_layer: 1,
  n_head: 2,
  n_embd: 16,
  block_size: 8,
  batch_size: 2,
  gradient_accumulation_steps: 2,
  eval_interval: 3,
  eval_iters: 2,
  threads: 1,
});

/** Each test takes what it needs from these, so that it passes alone. */
const prepared = once(() => {
  writeFileSync(join(FOLDER, "text.txt"), TEXT);
  return succeed("data/shakespeare_char/prepare.ts", ["--input=text.txt", "--out=data"], here);
});
const trained = once(async () => {
  await prepared();
  const stdout = await succeed("train.ts", [...TRAIN, "--max_iters=3"], here);
  const { metadata, tensors } = await loadCheckpoint(join(FOLDER, "out"));
  tensors.close();
  return { stdout, metadata, tensors, files: readdirSync(join(FOLDER, "out")).sort() };
});

test("prepare", async () => {
  assert.match(await prepared(), /^vocab_size: 21\ntrain\.bin: +4,500 tokens\nval\.bin: +500 tokens$/m);
  assert.deepEqual(readdirSync(join(FOLDER, "data")).sort(), ["meta.json", "train.bin", "val.bin"]);
});

test("train", async () => {
  const { stdout, metadata, tensors, files } = await trained();
  assert.match(stdout, /^step 0: train loss 3\.\d+, val loss 3\.\d+\niter 0: loss 3\.\d+, time /m); // about ln 21
  assert.equal(metadata.iter_num, 3);
  assert.deepEqual(files, ["ckpt.json", "logs", "metrics.jsonl", metadata.weights.file]);
  assert.ok(tensors.entries.has("transformer.h.0.attn.c_attn.weight"));
  assert.ok(tensors.entries.has("optimizer.exp_avg.transformer.wte.weight"));
});

test("resume", async () => {
  await trained();
  const stdout = await succeed("train.ts", [...TRAIN, "--max_iters=6", "--init_from=resume"], here);
  assert.match(stdout, /^Resuming training from out\n/m);
  assert.deepEqual(
    [...stdout.matchAll(/^iter (\d+)/gm)].map(([, step]) => step),
    ["3", "4", "5"],
  );
  const { metadata, tensors } = await loadCheckpoint(join(FOLDER, "out"));
  tensors.close();
  assert.equal(metadata.iter_num, 6);
});

test("sample", async () => {
  await trained();
  const ended = await run(
    "sample.ts",
    ["--start=ember", "--num_samples=2", "--max_new_tokens=20", "--threads=1"],
    here,
  );
  assert.equal(ended.code, 0, ended.stderr);
  const [first, second, rest] = ended.stdout.split("\n---------------\n");
  assert.equal(rest, "");
  for (const sample of [first!, second!]) {
    assert.ok(sample.startsWith("ember"));
    assert.equal(sample.length, 25);
    for (const character of sample) assert.ok(TEXT.includes(character), JSON.stringify(character));
  }
  assert.notEqual(first, second);
});

const MISTAKES: [script: string, args: string[], RegExp][] = [
  ["train.ts", ["--bach_size=2"], /unknown key "bach_size" \(--bach_size\); did you mean batch_size\?/],
  ["train.ts", ["--dataset=nowhere"], /no dataset "nowhere"/],
  ["train.ts", [...TRAIN, "--init_from=empty"], /no checkpoint in empty/],
  ["sample.ts", ["--out_dir=empty"], /no checkpoint in empty/],
  ["sample.ts", ["--start=%"], /no token for the character "%"/],
  ["bench.ts", ["--steps=0"], /steps must be an integer of at least 1, got 0/],
  ["data/shakespeare_char/prepare.ts", ["--input=none.txt"], /no file or folder none\.txt/],
];

test("mistakes are one line and touch no file", async () => {
  await trained();
  mkdirSync(join(FOLDER, "empty"));
  const before = contentsOf(FOLDER);
  const runHere = oneProcess();
  for (const [script, args, message] of MISTAKES) {
    const ended = await runHere(script, args, FOLDER);
    const stderr = ended.stderr.replace(/^overriding with .*\n/, ""); // sample.ts says so there: stdout is for text
    assertRefused({ ...ended, stderr }, message);
  }
  assert.deepEqual(contentsOf(FOLDER), before);
});
