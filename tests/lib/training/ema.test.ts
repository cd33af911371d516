// The EMA of the weights: how much of a step goes into it (update.test.ts has the formula), and that evaluating with it leaves no trace.

import assert from "node:assert/strict";
import test from "node:test";

import { WeightAverage } from "../../../lib/training/ema.ts";
import { assertSameBits, randomFloats, randomVariable } from "../../support.ts";

test("a step takes 1 - decay of the weight into the average, more in the first steps", () => {
  const w = randomVariable("w", [50]);
  const ema = new WeightAverage([w], 0.7);
  assert.deepEqual(ema.tensors()[0]!.data, w.data);
  for (let step = 0; step < 40; step++) {
    assert.equal(ema.advance(), 1 - Math.min(0.7, (1 + step) / (10 + step))); // 0.3 from step 20 on
  }
  assert.equal(ema.steps, 40);
  w.data.fill(3);
  ema.restart();
  assert.equal(ema.steps, 0);
  assertSameBits(ema.tensors()[0]!.data, w.data, "restarted");
  assert.deepEqual([ema.tensors()[0]!.name, ema.tensors()[0]!.shape], ["ema.w", [50]]);
});

test("during an evaluation the weights are the average, and then themselves, also where it fails", async () => {
  const variables = [randomVariable("a", [7]), randomVariable("b", [2, 3])];
  const ema = new WeightAverage(variables, 0.9);
  for (const { data, name } of variables) data.set(randomFloats(`${name} moved`, [data.length]));
  for (const { data } of ema.tensors()) data.set(randomFloats("average", [data.length]));
  const weights = variables.map(({ data }) => data.slice());
  const averages = ema.tensors().map(({ data }) => data.slice());
  const assertUntouched = () => {
    for (const [i, { data }] of variables.entries()) assertSameBits(data, weights[i]!, "weights");
    for (const [i, { data }] of ema.tensors().entries()) assertSameBits(data, averages[i]!, "averages");
  };
  const seen = await ema.during(async () => variables.map(({ data }) => data.slice()));
  assert.deepEqual(seen, averages);
  assert.notDeepEqual(seen, weights);
  assertUntouched();
  const failing = async () => {
    throw new Error("no loss");
  };
  await assert.rejects(ema.during(failing), /no loss/);
  assertUntouched();
});
