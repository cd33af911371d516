// train.ts with --dtype=float16: near the run in float32, the same run when resumed, and what an overflow does.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { before, test } from "node:test";
import { sizeOf } from "../lib/common/shape.ts";
import { at, readHistory } from "../lib/monitor/metrics_file.ts";
import { loadCheckpoint, saveCheckpoint } from "../lib/training/checkpoint.ts";
import type { LossScale } from "../lib/training/loss_scale.ts";
import { assertRefused, launch } from "./scripts.ts";
import { tinyRuns } from "./tiny_runs.ts";

/** With all that could make a resumed run another one. */
const runs = tinyRuns({
  dtype: "float16",
  micro_batch_size: 2,
  ema: 0.9,
  warmup_iters: 5,
  lr_decay_iters: 20,
  max_iters: 20,
  eval_interval: 10,
});
const { folder: FOLDER, outDir, args: tiny, train, runHere } = runs;

/** What a checkpoint says, and the bytes of its weights, optimizer and average. */
async function stateOf(name: string) {
  const { metadata, tensors } = await loadCheckpoint(outDir(name));
  tensors.close();
  const { config: _, ...rest } = metadata;
  return { ...rest, bytes: readFileSync(tensors.path) };
}

const lossesOf = (name: string) => readHistory(outDir(name)).series.get("loss")!.values;

/** The checkpoint of one folder in another one, with a loss scale and perhaps weights of the caller's. */
async function alter(
  from: string,
  to: string,
  loss_scale: LossScale,
  change?: (name: string, data: Float32Array) => void,
) {
  const { metadata, tensors } = await loadCheckpoint(outDir(from));
  const all = [...tensors.entries].map(([name, { shape }]) => {
    const data = new Float32Array(sizeOf(shape));
    tensors.read(name, shape, data);
    change?.(name, data);
    return { name, shape, data };
  });
  tensors.close();
  await saveCheckpoint(outDir(to), { ...metadata, loss_scale }, all);
}

before(async () => {
  await train("whole");
  await train("start", { max_iters: 10 });
});

test("twenty steps stay near those in float32, compiled and eager", async () => {
  const said = await train("exact", { dtype: "float32" });
  assert.doesNotMatch(said, /loss scale/);
  await train("eager", { compile: false, max_iters: 5 });
  const [half, exact, eager] = [lossesOf("whole"), lossesOf("exact"), lossesOf("eager")];
  // A product is off by up to 2^-11 of itself, and the loss of the first step averages that over 128 tokens; what the steps
  // add to it was 1.4e-3 at the most when this was written.
  assert.ok(Math.abs(half[0]! - exact[0]!) < 1e-3 && half[0] !== exact[0], `${half[0]}, in float32 ${exact[0]}`);
  for (const [i, loss] of exact.entries())
    assert.ok(Math.abs(half[i]! - loss) < 1e-2, `step ${i}: ${half[i]}, ${loss}`);
  assert.ok(half.at(-1)! < half[0]! - 0.5, "it doesn't learn");
  for (const [i, loss] of eager.entries())
    assert.ok(Math.abs(half[i]! - loss) < 1e-2, `eager ${i}: ${half[i]}, ${loss}`);
  assert.equal((await stateOf("exact")).loss_scale, undefined);
  assert.deepEqual((await stateOf("whole")).loss_scale, { scale: 65_536, good_steps: 20, skipped_steps: 0 });
});

test("a run that recomputes, one that is resumed and one that was killed are the run that wasn't: every bit", async () => {
  const killed = launch("train.ts", tiny("killed", { max_iters: 100_000 }), { cwd: FOLDER });
  await killed.until(/^iter 13:/m);
  killed.child.kill("SIGKILL");
  await killed.ended;
  await train("killed", { init_from: "resume" });
  await train("again", { grad_checkpoint: true });
  await train("parts", { max_iters: 10 });
  await train("parts", { init_from: "resume" });
  const { callbacks: _, ...whole } = await stateOf("whole");
  for (const name of ["killed", "again", "parts"]) {
    const { callbacks: _, ...state } = await stateOf(name);
    assert.deepEqual(state, whole, name);
  }
});

test("overflows are skipped, reported and counted, nothing else changes, and the run goes on", async () => {
  await alter("start", "skips", { scale: 2 ** 40, good_steps: 7, skipped_steps: 3 });
  const before = await stateOf("skips");
  const said = await train("skips", { init_from: "resume", max_iters: 14, eval_interval: 7, spike_threshold: 5 });
  const after = await stateOf("skips");
  assert.ok(after.bytes.equals(before.bytes), "a skipped step changed weights, optimizer or average");
  assert.deepEqual([after.optimizer_steps, after.ema_steps], [before.optimizer_steps, before.ema_steps]);
  assert.deepEqual(after.loss_scale, { scale: 2 ** 36, good_steps: 0, skipped_steps: 7 });
  assert.match(
    said,
    /^step 10: the gradient is too large for float16; the step is skipped, and the loss scale is 549755813888 now$/m,
  );
  const history = readHistory(outDir("skips"));
  const { loss, loss_scale, skipped_steps, grad_norm } = at(history, 11);
  assert.ok(Number.isFinite(loss));
  assert.deepEqual([loss_scale, skipped_steps, grad_norm], [2 ** 38, 5, undefined]);

  // from where one more halving is enough: the steps after it are made
  await alter("start", "mends", { scale: 2 ** 24, good_steps: 0, skipped_steps: 0 });
  await train("mends", { init_from: "resume", max_iters: 30, eval_interval: 30 });
  const { scale, good_steps, skipped_steps: skipped } = (await stateOf("mends")).loss_scale!;
  assert.ok(skipped > 0 && skipped < 12, `${skipped} steps skipped`);
  // the checkpoint is of the steps before 30; how many since the last one that was skipped
  const { iters, values } = readHistory(outDir("mends")).series.get("skipped_steps")!;
  const last = iters[values.lastIndexOf(skipped - 1) + 1]!;
  assert.deepEqual([scale, good_steps], [2 ** (24 - skipped), 29 - last]);
  assert.equal((await stateOf("mends")).optimizer_steps, 30 - skipped);
});

test("skipped steps before and after a resumption: the same run", async () => {
  const scale = { scale: 2 ** 24, good_steps: 0, skipped_steps: 0 };
  for (const name of ["one", "two"]) await alter("start", name, scale);
  await train("one", { init_from: "resume", max_iters: 18, eval_interval: 6 });
  await train("two", { init_from: "resume", max_iters: 12, eval_interval: 6 });
  await train("two", { init_from: "resume", max_iters: 18, eval_interval: 6 });
  assert.ok((await stateOf("one")).loss_scale!.skipped_steps > 2);
  const [one, two] = await Promise.all(["one", "two"].map(stateOf));
  assert.deepEqual({ ...two, callbacks: undefined }, { ...one, callbacks: undefined });
});

test("a forward pass that overflows, and a gradient that does at scale 1, end the run", async () => {
  const fine = { scale: 65_536, good_steps: 0, skipped_steps: 0 };
  await alter("start", "forward", fine, (name, data) => {
    if (name === "transformer.h.0.mlp.c_fc.weight") data.fill(1e6); // infinity in float16
  });
  const forward = await runHere("train.ts", tiny("forward", { init_from: "resume", eval_interval: 100 }), FOLDER);
  assert.match(forward.stderr, /^error: [^\n]*the loss is (?:NaN|infinite); [^\n]+\n$/);
  assert.equal(forward.code, 1);

  await alter("start", "hopeless", { ...fine, scale: 1 }, (name, data) => {
    // the hidden units are 0, so this layer's weights matter to the gradient alone
    if (name === "transformer.h.0.mlp.c_fc.weight") data.fill(0);
    if (name === "transformer.h.0.mlp.c_proj.weight") data.set(data.map((number) => Math.sign(number) * 65_504));
  });
  const hopeless = await runHere("train.ts", tiny("hopeless", { init_from: "resume", eval_interval: 100 }), FOLDER);
  assert.match(hopeless.stdout, /^step 10: the gradient is too large for float16 even with a loss scale of 1$/m);
  assert.match(hopeless.stderr, /^error: [^\n]*the gradient is (?:NaN|infinite); [^\n]+\n$/);
  assert.equal(hopeless.code, 1);

  // a roll back takes the scale back too: each of the ten attempts starts from 1
  const again = { init_from: "resume", eval_interval: 100, rollback: true };
  const rolled = await runHere("train.ts", tiny("hopeless", again), FOLDER);
  assert.equal([...rolled.stdout.matchAll(/even with a loss scale of 1$/gm)].length, 11);
  assert.match(rolled.stderr, /^error: [^\n]*the gradient is (?:NaN|infinite), after 10 roll backs; [^\n]+\n$/);
});

test("a float32 checkpoint goes on in float16 and back, with a line that says so", async () => {
  await train("turn", { dtype: "float32", max_iters: 2, eval_interval: 2 });
  const there = await train("turn", { init_from: "resume", max_iters: 4, eval_interval: 2 });
  assert.match(there, /^float16 from here on, the loss scale starts at 65536 \(dtype\)$/m);
  assert.deepEqual((await stateOf("turn")).loss_scale, { scale: 65_536, good_steps: 2, skipped_steps: 0 });
  const back = await train("turn", { dtype: "float32", init_from: "resume", max_iters: 6, eval_interval: 2 });
  assert.match(back, /^float32 from here on; the checkpoint is of a run in float16 \(dtype\)$/m);
  assert.equal((await stateOf("turn")).loss_scale, undefined);
  assert.equal((await stateOf("turn")).optimizer_steps, 6);
});

test("every optimizer takes the unscaled gradients: as large a norm as in float32", async () => {
  for (const optimizer of ["muon", "lion", "adafactor", "sgd"]) {
    const few = { optimizer, max_iters: 2, eval_interval: 10, learning_rate: 1e-4 };
    await Promise.all([train(`${optimizer}16`, few), train(`${optimizer}32`, { ...few, dtype: "float32" })]);
    for (const step of [0, 1]) {
      const [half, exact] = [16, 32].map((bits) => at(readHistory(outDir(`${optimizer}${bits}`)), step).grad_norm!);
      assert.ok(Math.abs(half! / exact! - 1) < 0.01 && half !== exact, `${optimizer}: ${half}, in float32 ${exact}`);
    }
  }
});

test("scripts that don't train refuse float16 in one line", async () => {
  for (const script of ["sample.ts", "tools/evaluate.ts"]) {
    const ended = await runHere(script, [`--out_dir=${outDir("whole")}`, "--dtype=float16"], FOLDER);
    assertRefused(
      ended,
      /dtype must be "float32" or "int8", got "float16" \(--dtype\); float16 is for training, and checkpoints have float32/,
    );
  }
});
