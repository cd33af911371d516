// The average of the weights, by hand, and that evaluating with it leaves no trace.

import assert from "node:assert/strict";
import test from "node:test";

import { WeightAverage } from "../../../lib/training/ema.ts";
import { assertClose, assertSameBits, randomFloats, randomVariable } from "../../support.ts";

test("the average follows by 1 - decay of the difference, faster in the first steps", async () => {
  const w = randomVariable("w", [50]);
  const ema = new WeightAverage([w], 0.7);
  const expected = Float64Array.from(w.data);
  assert.deepEqual(ema.tensors()[0]!.data, w.data);
  for (let step = 0; step < 40; step++) {
    w.data.set(randomFloats(`w ${step}`, [50]));
    await ema.update();
    const decay = Math.min(0.7, (1 + step) / (10 + step)); // 0.7 from step 20 on
    for (const [i, weight] of w.data.entries()) expected[i] = decay * expected[i]! + (1 - decay) * weight;
    // stored in single precision: a rounding of numbers up to 2 at each step, of which earlier ones fade
    assertClose(ema.tensors()[0]!.data, expected, { atol: 1e-6, label: `step ${step}` });
  }
  assert.equal(ema.steps, 40);
  ema.restart();
  assert.equal(ema.steps, 0);
  assertSameBits(ema.tensors()[0]!.data, w.data, "begun anew");
  assert.deepEqual([ema.tensors()[0]!.name, ema.tensors()[0]!.shape], ["ema.w", [50]]);
});

test("during an evaluation the weights are the average, and then themselves, also where it fails", async () => {
  const variables = [randomVariable("a", [7]), randomVariable("b", [2, 3])];
  const ema = new WeightAverage(variables, 0.9);
  for (const { data, name } of variables) data.set(randomFloats(`${name} moved`, [data.length]));
  await ema.update();
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
