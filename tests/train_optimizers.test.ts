// train.ts with each optimizer, schedule and an average of the weights: a resumed run is the same run to the bit, the
// average is what is sampled, and settings that contradict each other are one line.

import assert from "node:assert/strict";
import { cpSync } from "node:fs";
import { test } from "node:test";
import { openModel } from "../lib/formats/pretrained.ts";
import { readHistory } from "../lib/monitor/metrics_file.ts";
import { findConflict } from "../lib/settings/rules.ts";
import { loadCheckpoint } from "../lib/training/checkpoint.ts";
import { OPTIMIZERS } from "../lib/training/choices.ts";
import { GPT } from "../model.ts";
import { assertRefused, assertSucceeded, flags, once } from "./scripts.ts";
import { assertClose } from "./support.ts";
import { type Changes, tinyRuns } from "./tiny_runs.ts";

const runs = tinyRuns({
  warmup_iters: 3,
  lr_decay_iters: 12,
  min_lr: 1e-3,
  max_iters: 12,
  eval_interval: 6,
});
const { folder: FOLDER, settings: TINY, outDir, args: tiny, train, runHere, stateOf, assertSameState, tensorOf } = runs;

// each with another schedule and, but for one, with an average
const RUNS: Record<string, Changes> = {
  adamw: { optimizer: "adamw", schedule: "linear", ema: 0.9 },
  lion: { optimizer: "lion", schedule: "wsd", ema: 0.5, learning_rate: 1e-3 },
  muon: { optimizer: "muon", schedule: "cosine", ema: 0.99 },
  adafactor: { optimizer: "adafactor", schedule: "constant", learning_rate: 0.05 },
  sgd: { optimizer: "sgd", decay_lr: false, ema: 0.9, learning_rate: 0.05 },
};
assert.deepEqual(Object.keys(RUNS), [...OPTIMIZERS]);

/** All 12 steps of one of them in NAME_whole; gives what was printed. */
const whole = Object.fromEntries(
  Object.entries(RUNS).map(([name, changes]) => [name, once(() => train(`${name}_whole`, changes))]),
);

for (const [name, changes] of Object.entries(RUNS)) {
  test(`${name}: 12 steps are 6 steps, resumed, and 6 more, to the bit; it learns`, async () => {
    const [printed] = await Promise.all([whole[name]!(), train(`${name}_parts`, { ...changes, max_iters: 6 })]);
    assert.equal((await stateOf(`${name}_parts`)).metadata.iter_num, 6);
    await train(`${name}_parts`, { ...changes, init_from: "resume" });
    await assertSameState(`${name}_whole`, `${name}_parts`);
    const losses = [...printed.matchAll(/^step \d+: .*val loss (\d+\.\d+)/gm)].map(([, loss]) => Number(loss));
    assert.equal(losses.length, 3);
    assert.ok(losses[2]! < losses[0]! - 0.1, `${name} goes from ${losses[0]} to ${losses[2]}`);
  });
}

test("a checkpoint of another optimizer is one line, unless the run is only evaluated", async () => {
  await whole.muon!();
  const other = { init_from: "resume", optimizer: "sgd", ema: 0.99 };
  assertRefused(
    await runHere("train.ts", tiny("muon_whole", other), FOLDER),
    /has the state of --optimizer=muon, not of sgd; resume with that one, or start a new run from its weights: --init_from=/,
  );
  const evaluated = await train("muon_whole", { ...other, eval_only: true });
  assert.match(evaluated, /^step 12: train loss/m);
});

test("the average is evaluated, decides what is best, and is what other scripts open", async () => {
  await whole.lion!();
  const stdout = await train("lion_whole", { ...RUNS.lion, init_from: "resume", eval_only: true });
  const [, own, averaged] = /^step 12: train loss .*, val loss (\d\.\d+), averaged (\d\.\d+)$/m.exec(stdout) ?? [];
  assert.ok(own && averaged && own !== averaged, stdout);

  const { metadata, names } = await stateOf("lion_whole");
  assert.equal(metadata.ema_steps, 12);
  const averages = readHistory(outDir("lion_whole")).series.get("val/ema_loss")!.values;
  // the metrics have seven digits
  assertClose([metadata.best_val_loss!], [Math.min(...averages)], { atol: 0, rtol: 1e-6, label: "best_val_loss" });
  const weight = "transformer.wte.weight";
  assert.ok(names.includes(weight) && names.includes(`ema.${weight}`));

  const { tensors } = await loadCheckpoint(outDir("lion_whole"));
  for (const average of [true, false]) {
    const lines: string[] = [];
    const log = (line: string) => void lines.push(line);
    const opened = await openModel("resume", outDir("lion_whole"), { average, log });
    const model = new GPT(opened.modelArgs);
    await opened.read(model);
    for (const { name, shape, data } of model.parameters) {
      const expected = new Float32Array(data.length);
      tensors.read(average ? `ema.${name}` : name, shape, expected);
      assert.deepEqual(data, expected, name);
      assert.deepEqual(opened.tensors.place(name), tensors.place(average ? `ema.${name}` : name));
    }
    opened.close();
    assert.equal(lines.length, average ? 1 : 0);
    if (average) assert.match(lines[0]!, /averaged over its steps \(ema 0\.5\)$/);
  }
  tensors.close();

  // another run begins with the average, and draws the same text from it, compiled and not
  const still = { learning_rate: 0, decay_lr: false, max_iters: 1, eval_interval: 1 };
  await train("from_average", { ...still, init_from: outDir("lion_whole") });
  const sample = async (name: string, compile: boolean) => {
    const settings = { out_dir: outDir(name), num_samples: 1, max_new_tokens: 20, temperature: 0, threads: 1, compile };
    return assertSucceeded(await runHere("sample.ts", flags(settings), FOLDER), name);
  };
  const text = await sample("lion_whole", true);
  assert.equal(await sample("lion_whole", false), text);
  assert.equal(await sample("from_average", true), text);
});

test("a resumed run can begin an average, and end it", async () => {
  const changes = { optimizer: "adafactor", schedule: "constant", learning_rate: 0.05, init_from: "resume" };
  await whole.adafactor!();
  cpSync(outDir("adafactor_whole"), outDir("later"), { recursive: true });
  const begun = await train("later", { ...changes, ema: 0.9, max_iters: 18 });
  assert.match(begun, /^the checkpoint has no average of the weights: it starts at these \(ema\)$/m);
  assert.equal((await stateOf("later")).metadata.ema_steps, 6);
  const ended = await train("later", { ...changes, ema: 0, max_iters: 24 });
  assert.match(ended, /^the checkpoint's EMA of the weights ends here/m);
  assert.equal((await stateOf("later")).metadata.ema_steps, undefined);
  await train("adafactor_whole", { ...changes, max_iters: 24 });
  const weights = (name: string) => tensorOf(name, "transformer.wpe.weight");
  assert.deepEqual(await weights("later"), await weights("adafactor_whole")); // the run itself never sees an average
});

test("settings that contradict each other are refused", async () => {
  const cases: [Changes, RegExp][] = [
    [{ schedule: "wsd", decay_lr: false }, /decay_lr false keeps the learning rate constant, schedule wsd lowers it/],
    [{ schedule: "linear", decay_lr: false }, /schedule linear lowers it; leave one of them out/],
    [{ schedule: "wsd", warmup_iters: 11 }, /warmup_iters 11 is beyond step 10, where wsd's cooldown begins/],
    [{ schedule: "linear", warmup_iters: 13 }, /warmup_iters 13 is beyond lr_decay_iters 12/],
  ];
  const defaults = { schedule: "cosine", decay_lr: true, cooldown_fraction: 0.2 };
  for (const [changes, message] of cases) {
    assert.match(findConflict({ ...TINY, ...defaults, ...changes })?.problem ?? "no conflict", message);
  }
  for (const changes of [{}, { decay_lr: false }, { schedule: "constant", warmup_iters: 13 }, { schedule: "wsd" }]) {
    assert.equal(findConflict({ ...TINY, ...defaults, ...changes }), undefined);
  }
  assertRefused(await runHere("train.ts", tiny("refused", cases[0]![0]), FOLDER), cases[0]![1]);
  assertRefused(
    await runHere("train.ts", tiny("refused", { optimizer: "adam" }), FOLDER),
    /optimizer must be "adamw", "lion", "muon", "adafactor" or "sgd", got "adam" \(--optimizer\); did you mean "adamw"\?/,
  );
});
