// train.ts and sample.ts with encoders and encoder-decoders: a run in two parts is the run in one, it learns, and what
// can't be done is refused.

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { keyOf, uniform } from "../lib/common/rng.ts";
import { preparePairs } from "../lib/text/sequence_pairs.ts";
import { assertRefused, assertSucceeded, once, ROOT, temporaryFolder } from "./scripts.ts";
import { tinyRuns } from "./tiny_runs.ts";

const { folder, args, train, runHere, assertSameState } = tinyRuns({
  max_iters: 10,
  eval_interval: 5,
  dropout: 0.1,
  stats_interval: 5,
});
const at = (name: string) => `--out_dir=${join(folder, name)}`;
const sample = async (...flags: string[]) =>
  assertSucceeded(await runHere("sample.ts", ["--threads=1", ...flags], folder), `sample.ts ${flags.join(" ")}`);

const whole = (architecture: string) => once(() => train(`${architecture}-whole`, { architecture, ema: 0.9 }));
const wholes = { encoder: whole("encoder"), encoder_decoder: whole("encoder_decoder") };

for (const architecture of ["encoder", "encoder_decoder"] as const) {
  test(`${architecture}: in two parts as in one, with micro-batches and layers' statistics`, async () => {
    const settings = { architecture, ema: 0.9 };
    await wholes[architecture]();
    await train(`${architecture}-parts`, { ...settings, max_iters: 5 });
    await train(`${architecture}-parts`, { ...settings, init_from: "resume" });
    await assertSameState(`${architecture}-parts`, `${architecture}-whole`);
  });
}

test("an encoder fills masks, and says what it can't do in one line", async () => {
  await wholes.encoder();
  const out = at("encoder-whole");
  const text = await sample(out, "--start=a[MASK]c[MASK]", "--num_samples=2", "--max_new_tokens=3");
  assert.match(text, /^a.c.\n-+\na.c.\n-+\n$/s);
  for (const [flag, message] of [
    ["--start=abc", /error: .*write \[MASK\] for each in --start\n$/],
    ["--evaluate=package.json", /error: --evaluate is for the architecture decoder.*\n$/],
  ] as const) {
    const { code, stdout, stderr } = await runHere("sample.ts", [out, flag], ROOT);
    assert.deepEqual([code, stdout], [1, ""]);
    assert.match(stderr, message);
  }
  assertRefused(
    await runHere("train.ts", args("refused", { architecture: "encoder", sample_interval: 1 })),
    /writes no text/,
  );
});

test("pairs are learned: three letters backwards", async () => {
  // who doesn't look at the source can't be better than one letter in five: 3 ln 5 nats in 4 tokens, 1.2 a token
  const letter = (i: number, k: number) => "abcde"[Math.floor(5 * uniform(keyOf("letters", i), k))]!;
  const pairs = Array.from({ length: 400 }, (_, i) => {
    const letters = [0, 1, 2].map((k) => letter(i, k));
    return [letters.join(""), letters.toReversed().join("")] as const;
  });
  const dataset = temporaryFolder();
  preparePairs(pairs, { text: "letters", source: { name: "letters", sha256: "0" } }, { directory: dataset, length: 4 });
  const model = { architecture: "encoder_decoder", dataset, n_layer: 1, n_head: 4, block_size: 4, dropout: 0 };
  const schedule = {
    batch_size: 50,
    gradient_accumulation_steps: 1,
    max_iters: 300,
    eval_interval: 300,
    warmup_iters: 10,
  };
  const printed = await train("pairs", { ...model, ...schedule, stats_interval: 0 });
  const loss = Number(/step 300: train loss [\d.]+, val loss ([\d.]+)/.exec(printed)![1]);
  assert.ok(loss < 0.3, `validation loss ${loss}`);
  const text = await sample(at("pairs"), "--start=bad", "--num_samples=2", "--temperature=0");
  assert.match(text, /^dab\n-+\ndab\n-+\n$/);
  const exported = await runHere("tools/export.ts", [at("pairs"), `--to=${join(folder, "exported")}`]);
  assertRefused(exported, /an export is for the architecture decoder or encoder; .* is an encoder_decoder/);
  const wrong = await runHere("train.ts", args("other", { ...model, block_size: 8 }));
  assertRefused(wrong, /the dataset's pairs have 4 tokens each; take --block_size=4/);
});
