// tools/evaluate.ts as a person runs it, on a tiny checkpoint with random weights. The figures themselves are tested in
// tests/lib/decoding/evaluate.test.ts.

import assert from "node:assert/strict";
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { modelLosses, totalLoss } from "../../lib/decoding/evaluate.ts";
import { readMeta } from "../../lib/text/meta.ts";
import { GPT } from "../../model.ts";
import { assertRefused, contentsOf, type Ended, oneProcess, temporaryFolder, tinyDataset } from "../scripts.ts";
import { eager, saveModel, shaken } from "../support.ts";

const FOLDER = temporaryFolder();
const WORDS = tinyDataset(FOLDER, 3000); // 300 of them in val.bin
const META = readMeta(WORDS)!;
const model = shaken({ block_size: 16, vocab_size: META.vocab_size });
const turning = shaken({ block_size: 16, vocab_size: META.vocab_size, pos: "rotary" });

const runHere = oneProcess();
const evaluateIn = (...args: string[]) => runHere("tools/evaluate.ts", ["--threads=1", ...args], FOLDER);
const results = (outDir: string) => readdirSync(join(FOLDER, outDir, "evaluation"));

before(async () => {
  await saveModel(join(FOLDER, "run"), model, { config: { dataset: WORDS }, tokenizer: META });
  await saveModel(join(FOLDER, "turning"), turning, { config: { dataset: WORDS }, tokenizer: META });
});

/** The words as tokens without a text. */
const NUMBERS = join(FOLDER, "tokens");
before(async () => {
  await saveModel(join(FOLDER, "numbers"), model, { tokenizer: { kind: "ids", vocab_size: META.vocab_size } });
  cpSync(WORDS, NUMBERS, { recursive: true });
  rmSync(join(NUMBERS, "meta.json"));
});

/** stdout of a run that must succeed. */
function ok({ code, stdout, stderr }: Ended): string {
  assert.equal(code, 0, stdout + stderr);
  return stdout;
}

test("the split that the checkpoint was trained beside: printed, and written under the run's and the dataset's name", async () => {
  const stdout = ok(await evaluateIn("--out_dir=run"));
  assert.match(stdout, /^val of .*words by run after 7 steps\ntokens: +300, all but the first predicted\n/);
  const [name, ...others] = results("run");
  assert.deepEqual(others, []);
  assert.match(name!, /^eval_run_words_\d{8}_\d{6}\.json$/);
  const result = JSON.parse(readFileSync(join(FOLDER, "run", "evaluation", name!), "utf8"));
  const { loss, perplexity, bits_per_byte } = result;
  assert.match(stdout, new RegExp(`^perplexity: +${perplexity.toFixed(4).replace(".", "\\.")}$`, "m"));

  // by the uncompiled model
  const ids = valIds();
  const total = await totalLoss(ids, await modelLosses(eager, model), { block_size: 16, stride: 8 });
  assert.ok(Math.abs(loss - total / 299) < 1e-5, `${loss}, uncompiled ${total / 299}`); // single precision
  assert.ok(Math.abs(bits_per_byte - total / Math.LN2 / 300) < 1e-5); // a byte a character
  const { iter_num, dataset, split, tokens, stride, model: from } = result;
  assert.deepEqual(
    { iter_num, dataset, split, tokens, stride, from },
    { iter_num: 7, dataset: "words", split: "val", tokens: 300, stride: 8, from: "run" },
  );
});

/** The tokens of val.bin. */
function valIds(): number[] {
  const bytes = readFileSync(join(WORDS, "val.bin"));
  return Array.from({ length: bytes.length / 2 }, (_, i) => bytes.readUInt16LE(2 * i));
}

test("another context: a longer one where positions aren't learned, and a shorter one", async () => {
  const ids = valIds();
  const longer = new GPT({ ...turning.config, block_size: 40 });
  for (const [i, { data }] of turning.parameters.entries()) longer.parameters[i]!.data.set(data);
  for (const [name, context, plain] of [
    ["turning", 40, longer],
    ["run", 4, model],
  ] as const) {
    const { loss, block_size } = JSON.parse(
      ok(await evaluateIn(`--out_dir=${name}`, `--context=${context}`, "--json")),
    );
    const options = { block_size: context, stride: context / 2 };
    const total = await totalLoss(ids, await modelLosses(eager, plain), options);
    assert.ok(Math.abs(loss - total / 299) < 1e-5, `${loss}, uncompiled ${total / 299}`);
    assert.equal(block_size, context);
  }
});

test("the other split, its first tokens; a text file, of which the file's name becomes part of a name; as JSON", async () => {
  const train = JSON.parse(ok(await evaluateIn("--out_dir=run", "--split=train", "--max_tokens=50", "--json")));
  assert.deepEqual([train.split, train.tokens, train.bytes], ["train", 50, 50]);
  writeFileSync(join(FOLDER, "my text.v2.txt"), "\uFEFFamber candle\r\n");
  const text = JSON.parse(ok(await evaluateIn("--out_dir=run", "--evaluate=my text.v2.txt", "--json", "--no-compile")));
  assert.deepEqual([text.dataset, text.split, text.tokens], ["my-text.v2", null, 13]);
  assert.equal(results("run").filter((name) => /^eval_run_my-text\.v2_\d{8}_\d{6}\.json$/.test(name)).length, 1);
});

test("tokens without a text: nats and perplexity, and no bytes", async () => {
  const stdout = ok(await evaluateIn("--out_dir=numbers", `--dataset=${NUMBERS}`));
  const ids = valIds();
  const total = await totalLoss(ids, await modelLosses(eager, model), { block_size: 16, stride: 8 });
  assert.match(stdout, /\nloss: +\S+ nats\/token\nperplexity: +\S+\n$/); // and no bytes
  const result = JSON.parse(readFileSync(join(FOLDER, "numbers", "evaluation", results("numbers")[0]!), "utf8"));
  assert.deepEqual([result.bytes, result.bits_per_byte, result.tokens], [null, null, 300]);
  assert.ok(Math.abs(result.loss - total / 299) < 1e-5, `${result.loss}, uncompiled ${total / 299}`); // single precision
});

test("mistakes are one line and write nothing", async () => {
  writeFileSync(join(FOLDER, "one.txt"), "a");
  const other = join(FOLDER, "other");
  mkdirSync(other);
  writeFileSync(join(other, "meta.json"), JSON.stringify({ kind: "gpt2", vocab_size: 50_257 }));
  const rare = join(FOLDER, "rare");
  cpSync(WORDS, rare, { recursive: true });
  const bytes = readFileSync(join(rare, "val.bin"));
  bytes.writeUInt16LE(META.vocab_size, 14);
  writeFileSync(join(rare, "val.bin"), bytes);
  const before = contentsOf(FOLDER);
  const cases: [args: string[], message: RegExp][] = [
    [["--out_dir=nowhere"], /no checkpoint in nowhere/],
    [["--out_dir=run", "--split=test"], /split must be train or val, got "test"/],
    [["--out_dir=run", "--max_tokens=1"], /max_tokens must be/],
    [["--out_dir=run", "--evaluate=none.txt"], /no file none\.txt/],
    [["--out_dir=run", "--dataset=words", "--evaluate=one.txt"], /--dataset or --evaluate, not both/],
    [["--out_dir=run", "--evaluate=one.txt"], /too short/],
    [
      ["--out_dir=run", "--dataset=./other"],
      /tokens of dataset \.\/other mean something else .* knows 21 characters, the/,
    ],
    [["--out_dir=run", "--dataset=./tokens"], /the dataset has GPT-2's 50,257 tokens/],
    [["--out_dir=run", "--dataset=./rare"], /val\.bin has the token 21 at index 7, and/],
    [["--out_dir=numbers", "--evaluate=one.txt"], /--evaluate needs a text/],
    [["--out_dir=run", "--stride=17"], /--stride=17 is beyond the context of 16/],
    [["--out_dir=turning", "--context=8", "--stride=9"], /--stride=9 is beyond the context of 8/],
    [["--out_dir=run", "--context=17"], /in run has learned 16 positions, and no others; lower --context=17/],
  ];
  const runHere = oneProcess();
  for (const [args, message] of cases) {
    const ended = await runHere("tools/evaluate.ts", ["--threads=1", ...args], FOLDER);
    assertRefused({ ...ended, stderr: ended.stderr.replace(/^overriding with .*\n( .*\n)*/, "") }, message);
  }
  assert.deepEqual(contentsOf(FOLDER), before);
});
