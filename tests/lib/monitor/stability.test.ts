// lib/monitor/stability.ts and lib/monitor/early_stop.ts: when they act, and that a resumed run acts at the same step.

import assert from "node:assert/strict";
import { test } from "node:test";

import type { Callback, Run } from "../../../lib/monitor/callback.ts";
import { earlyStop } from "../../../lib/monitor/early_stop.ts";
import { type StabilityOptions, stability } from "../../../lib/monitor/stability.ts";
import { fakeRun } from "./support.ts";

const OFF: StabilityOptions = { lr_patience: 0, lr_factor: 0.5, spike_threshold: 0, rollback: false };

async function watch(options: Partial<StabilityOptions>, canRollBack = true) {
  const callback = stability({ ...OFF, ...options });
  const { run, asked } = await fakeRun({}, { canRollBack });
  callback.onTrainStart!(run);
  return { callback, run, asked };
}

const step = (callback: Callback, iter: number, loss: number, grad_norm = 1) =>
  callback.onStep!({ iter, metrics: { loss, grad_norm }, gradScale: 1, histograms: new Map() });

/** Evaluations every 10 steps; true for one that is better than all before. */
function evaluate(callback: Callback, bests: readonly boolean[], from = 0): void {
  for (const [i, best] of bests.entries()) {
    callback.onEvaluate!({ iter: 10 * (from + i), metrics: { "val/loss": 1 }, best, texts: new Map() });
  }
}

/** A loss that goes down with some noise, the same every time. */
const calm = (iter: number) => 4 - iter / 100 + 0.05 * Math.sin(7 * iter);

test("after lr_patience evaluations without a better one the rate is halved, then after as many again", async () => {
  const { callback, run, asked } = await watch({ lr_patience: 2 });
  evaluate(callback, [true, false, true, false]);
  assert.equal(run.learningRateScale, 1);
  evaluate(callback, [false], 4);
  assert.equal(run.learningRateScale, 0.5);
  evaluate(callback, [false], 5);
  assert.equal(run.learningRateScale, 0.5);
  evaluate(callback, [false], 6);
  assert.equal(run.learningRateScale, 0.25);
  assert.match(asked.lines[0]!, /^step 40: no better validation loss in 2 evaluations .* 0\.5 of its schedule/);
});

test("a loss that stays far above the recent ones for three steps is a spike; noise and one bad batch are not", async () => {
  const { callback, run, asked } = await watch({ spike_threshold: 8 });
  for (let iter = 0; iter < 100; iter++) step(callback, iter, iter === 60 ? 9 : calm(iter));
  assert.equal(run.learningRateScale, 1);
  for (const iter of [100, 101]) step(callback, iter, 9);
  assert.equal(run.learningRateScale, 1);
  step(callback, 102, 9);
  assert.equal(run.learningRateScale, 0.5);
  assert.match(asked.lines[0]!, /^step 102: the loss has jumped to 9\.0000/);
  assert.deepEqual(asked.rollBacks, []);
});

test("with rollback a spike goes back to the checkpoint, at the lower rate; without a checkpoint only the rate is lowered", async () => {
  const { callback, run, asked } = await watch({ spike_threshold: 8, rollback: true });
  for (let iter = 0; iter < 103; iter++) step(callback, iter, iter < 100 ? calm(iter) : 9);
  assert.equal(asked.rollBacks.length, 1);
  assert.equal(run.learningRateScale, 0.5);

  const none = await watch({ spike_threshold: 8, rollback: true }, false);
  for (let iter = 0; iter < 103; iter++) step(none.callback, iter, iter < 100 ? calm(iter) : 9);
  assert.equal(none.run.learningRateScale, 0.5);
});

test("a loss or gradient that is NaN or infinite ends the run, with advice; with rollback ten times it doesn't", async () => {
  const { callback } = await watch({});
  assert.throws(() => step(callback, 5, Number.NaN), {
    code: "diverged",
    message: /^the loss is NaN; lower --learning_rate/,
  });
  assert.throws(() => step(callback, 5, 3, Number.POSITIVE_INFINITY), /the gradient is infinite/);

  const back = await watch({ rollback: true });
  for (let time = 1; time <= 10; time++) step(back.callback, 5, Number.NaN);
  assert.equal(back.asked.rollBacks.length, 10);
  assert.equal(back.run.learningRateScale, 0.5 ** 10);
  assert.throws(() => step(back.callback, 5, Number.NaN), /after 10 roll backs/);
});

test("its state goes through a checkpoint: a resumed run sees the spike at the same step, and keeps the lower rate", async () => {
  const whole = await watch({ spike_threshold: 8, lr_patience: 1 });
  const parts = await watch({ spike_threshold: 8, lr_patience: 1 });
  for (const { callback } of [whole, parts]) {
    for (let iter = 0; iter < 70; iter++) step(callback, iter, calm(iter));
    evaluate(callback, [true, false], 6);
  }
  const resumed = await watch({ spike_threshold: 8, lr_patience: 1 });
  resumed.callback.restore!(JSON.parse(JSON.stringify(parts.callback.state!())));
  resumed.callback.onTrainStart!(resumed.run);
  assert.equal(resumed.run.learningRateScale, 0.5);
  evaluate(resumed.callback, [false], 7); // the evaluation at step 70 comes again
  for (const { callback, run } of [whole, resumed]) {
    assert.equal(run.learningRateScale, 0.5);
    for (const iter of [70, 71, 72]) step(callback, iter, 9);
    assert.equal(run.learningRateScale, 0.25);
  }
});

test("a step that float16 skipped, which has no gradient norm, is nothing to react to", async () => {
  const { callback, run, asked } = await watch({ rollback: true });
  for (let iter = 0; iter < 5; iter++)
    callback.onStep!({ iter, metrics: { loss: 2 }, gradScale: 1, histograms: new Map() });
  assert.deepEqual([run.learningRateScale, asked.rollBacks, asked.lines], [1, [], []]);
  callback.onStep!({ iter: 5, metrics: { loss: Number.NaN }, gradScale: 1, histograms: new Map() });
  assert.equal(asked.rollBacks.length, 1);
});

test("early stopping: patience evaluations in a row, none counted twice by a resumed run", async () => {
  const start = async (state?: unknown) => {
    const callback = earlyStop({ patience: 3 });
    const { run, asked } = await fakeRun();
    if (state) callback.restore!(JSON.parse(JSON.stringify(state)));
    callback.onTrainStart!(run as Run);
    return { callback, asked };
  };
  const { callback, asked } = await start();
  evaluate(callback, [true, false, false, true, false, false]);
  assert.deepEqual(asked.stops, []);
  const resumed = await start(callback.state!());
  evaluate(resumed.callback, [false], 5); // again
  assert.deepEqual(resumed.asked.stops, []);
  evaluate(resumed.callback, [false], 6);
  assert.match(resumed.asked.stops[0]!, /^no better validation loss in 3 evaluations \(early_stop_patience\)/);
});
