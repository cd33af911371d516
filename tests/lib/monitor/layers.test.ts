// lib/monitor/layers.ts: the numbers are those of the plain formulas, and nothing is done where nothing was asked for.

import assert from "node:assert/strict";
import { test } from "node:test";

import { tf } from "../../../lib/common/tf.ts";

import type { EvaluateEvent, StepEvent } from "../../../lib/monitor/callback.ts";
import { layers, routing, statistics } from "../../../lib/monitor/layers.ts";
import type { MLP } from "../../../lib/nn/feed_forward.ts";
import { tap, withTaps } from "../../../lib/nn/tap.ts";
import { fakeRun } from "./support.ts";

const stepEvent = (iter: number, gradScale: number): StepEvent => ({
  iter,
  metrics: {},
  gradScale,
  histograms: new Map(),
});
const close = (a: number | undefined, b: number, label: string) =>
  assert.ok(Math.abs(a! - b) <= 1e-5 * Math.max(1, Math.abs(b)), `${label}: ${a}, not ${b}`); // float32 sums

test("update ratios and gradient norms are those of the step that is looked at, and of no other", async () => {
  const { run } = await fakeRun({});
  const callback = layers({ statsInterval: 3, histogramInterval: 0 });
  callback.onTrainStart!(run);
  for (let iter = 0; iter < 7; iter++) {
    for (const parameter of run.model.parameters) {
      parameter.grad ??= new Float32Array(parameter.data.length).fill(2);
      for (let i = 0; i < parameter.data.length; i++) parameter.data[i]! += 0.01 * (iter + 1);
    }
    const event = stepEvent(iter, 1 / 4);
    callback.onStep!(event);
    if (iter % 3 !== 0) {
      assert.deepEqual(event.metrics, {});
      continue;
    }
    assert.equal(Object.keys(event.metrics).length, 2 * run.parameters.length);
    const { data } = run.model.transformer.wpe!;
    const before = data.map((value) => value - 0.01 * (iter + 1));
    const change = 0.01 * (iter + 1) * Math.sqrt(data.length);
    close(event.metrics["update_ratio/wpe.weight"], change / Math.hypot(...before), `step ${iter}`);
    close(event.metrics["grad_norm/wpe.weight"], (2 / 4) * Math.sqrt(data.length), `step ${iter}`);
  }
});

test("histograms get the weights themselves and the mean gradients", async () => {
  const { run } = await fakeRun({});
  for (const parameter of run.model.parameters) parameter.grad = new Float32Array(parameter.data.length).fill(3);
  const callback = layers({ statsInterval: 0, histogramInterval: 2 });
  callback.onTrainStart!(run);
  const [odd, even] = [stepEvent(1, 1 / 2), stepEvent(2, 1 / 2)];
  callback.onStep!(odd);
  callback.onStep!(even);
  assert.equal(odd.histograms.size, 0);
  assert.equal(even.histograms.size, 2 * run.parameters.length);
  assert.equal(even.histograms.get("weights/wte.weight"), run.model.transformer.wte.data);
  assert.ok(even.histograms.get("gradients/h.0.attn.c_attn.weight")!.every((value) => value === 1.5));
});

test("statistics: mean, deviation, largest, and units that are silent on every token", () => {
  const values = tf.tensor3d([
    [
      [1, 0, -4, 0.003],
      [3, 0, 2, 0.0039],
    ],
  ]);
  const [mean, std, max, dead] = statistics(values).dataSync();
  const numbers = [1, 0, -4, 0.003, 3, 0, 2, 0.0039];
  const average = numbers.reduce((a, b) => a + b) / 8;
  close(mean, average, "mean");
  close(std, Math.sqrt(numbers.reduce((sum, x) => sum + (x - average) ** 2, 0) / 8), "std");
  assert.equal(max, 4);
  assert.equal(dead, 0.5); // the last one never passes a thousandth of 4
});

test("activations of every layer at an evaluation, compiled and equal to the model run by hand", async () => {
  const { run } = await fakeRun();
  const { model } = run;
  (model.transformer.blocks[1]!.mlp as MLP).cFc.weight.data.fill(0); // relu(0): every unit of that layer is dead
  const callback = layers({ statsInterval: 1, histogramInterval: 0 });
  callback.onTrainStart!(run);
  for (let time = 0; time < 2; time++) {
    const event: EvaluateEvent = { iter: time, metrics: {}, best: true, texts: new Map() };
    await callback.onEvaluate!(event);
    const expected: Record<string, number> = {};
    tf.tidy(() => {
      const tapped: [string, tf.Tensor][] = [];
      const ids = tf.tensor2d(run.validationBatch().x, [2, 8], "int32");
      withTaps(
        (name, x) => {
          if (name !== "qkv") tapped.push([name, x]);
        },
        () => model.forward(ids),
      );
      for (const [i, [name, x]] of tapped.entries()) {
        const [mean, std, max, dead] = statistics(x).dataSync();
        const key = `activation/h.${i >> 1}.${name}`;
        Object.assign(expected, { [`${key}/mean`]: mean, [`${key}/std`]: std, [`${key}/max`]: max });
        if (name === "mlp") expected[`${key}/dead`] = dead!;
      }
    });
    assert.deepEqual(Object.keys(event.metrics), Object.keys(expected));
    for (const [key, value] of Object.entries(expected)) close(event.metrics[key], value, key);
    assert.equal(event.metrics["activation/h.1.mlp/dead"], 1);
    assert.ok(event.metrics["activation/h.0.mlp/dead"]! < 1);
    model.transformer.wte.data[0]! += 1; // the weights of now, not those of the first look
  }
});

test("routing: what the busiest expert has, and what a capacity drops", () => {
  // 3 tokens, 2 choices of 3 experts: the first has 3 rows, the second 2, the third 1
  const chosen = tf.oneHot(tf.tensor2d([0, 1, 0, 1, 2, 0], [3, 2], "int32"), 3, 1, 0, "float32");
  const [busiest, dropped] = routing(chosen, 1).dataSync(); // room for 2 each: one is dropped
  close(busiest, 1.5, "busiest");
  close(dropped, 1 / 6, "dropped");
  close(routing(chosen, 1.5).dataSync()[1], 0, "dropped with room for 3");
});

for (const expert_capacity_factor of [0, 1]) {
  test(`a mixture's routing at an evaluation, with an expert_capacity_factor of ${expert_capacity_factor}`, async () => {
    const { run } = await fakeRun({}, { shape: { ffn: "moe", n_expert: 4, expert_capacity_factor } });
    const callback = layers({ statsInterval: 1, histogramInterval: 0 });
    callback.onTrainStart!(run);
    const event: EvaluateEvent = { iter: 0, metrics: {}, best: true, texts: new Map() };
    await callback.onEvaluate!(event);
    const chosen: tf.Tensor[] = [];
    const ids = tf.tensor2d(run.validationBatch().x, [2, 8], "int32");
    const listen = (name: string, x: tf.Tensor) => name === "chosen" && chosen.push(x);
    withTaps(listen, () => run.model.forward(ids));
    assert.equal(chosen.length, 2);
    for (const [layer, choices] of chosen.entries()) {
      const [busiest, dropped] = routing(choices, expert_capacity_factor).dataSync();
      close(event.metrics[`router/h.${layer}/busiest`], busiest!, "busiest");
      if (expert_capacity_factor > 0) close(event.metrics[`router/h.${layer}/dropped`], dropped!, "dropped");
      else assert.ok(!(`router/h.${layer}/dropped` in event.metrics));
    }
  });
}

test("taps show nothing once the body has ended, even by an error", () => {
  const seen: string[] = [];
  const x = tf.scalar(1);
  assert.throws(() =>
    withTaps(
      (name) => seen.push(name),
      () => {
        tap("inside", x);
        throw new Error("stop");
      },
    ),
  );
  assert.equal(tap("outside", x), x);
  assert.deepEqual(seen, ["inside"]);
});
