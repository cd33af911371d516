// What every optimizer has around its formula: clipping, gradients that were added up, decay, the EMA, large weights that are
// taken in pieces. The formulas: optimizers/torch.test.ts.

import assert from "node:assert/strict";
import test from "node:test";

import { createEngine } from "../../../lib/engine/runtime/program.ts";
import { Parameter } from "../../../lib/nn/parameter.ts";
import { OPTIMIZERS } from "../../../lib/training/choices.ts";
import { WeightAverage } from "../../../lib/training/ema.ts";
import { createOptimizer } from "../../../lib/training/optimizers/create.ts";
import { sgd } from "../../../lib/training/optimizers/sgd.ts";
import { Update } from "../../../lib/training/update.ts";
import { assertClose, assertSameBits, compiled, eager, randomFloats, sizeOf } from "../../support.ts";

const OPTIONS = { beta1: 0.9, beta2: 0.95, momentum: 0.9 };
const DECAY = 0.1;

/** A model's kinds of weights, small. */
function weights(): Parameter[] {
  const made = [
    new Parameter("wte", [5, 4], { constant: 0 }, "embedding"),
    new Parameter("c_attn", [4, 12], { constant: 0 }, "hidden", [4, 4, 4]),
    new Parameter("experts", [3, 4, 6], { constant: 0 }, "hidden"),
    new Parameter("router", [4, 3], { constant: 0 }, "router"),
    new Parameter("ln", [4], { constant: 0 }, "norm"),
  ];
  for (const { name, shape, data } of made) data.set(randomFloats(name, shape));
  return made;
}

const groupsOf = (all: Parameter[]) => ({
  decay: all.filter(({ shape }) => shape.length > 1),
  noDecay: all.filter(({ shape }) => shape.length < 2),
});

function setGrads(all: readonly Parameter[], step: number, factor = 1): void {
  for (const weight of all) {
    weight.grad ??= new Float32Array(weight.size);
    weight.grad.set(randomFloats(`grad ${step} ${weight.name}`, weight.shape).map((g) => g * factor));
  }
}

/** SGD without momentum moves a weight by its gradient: what is left is what all optimizers share, here one number at a time. */
for (const [kind, engine] of Object.entries({ compiled, eager })) {
  for (const [grad_clip, accumulated] of [
    [0, 1],
    [0.5, 4],
    [100, 4],
  ] as const) {
    test(`${kind}: clip ${grad_clip}, ${accumulated} gradients added up, weight decay and the EMA`, async () => {
      const all = weights();
      setGrads(all, 0);
      const ema = new WeightAverage(all, 0.8);
      const update = await Update.create(engine, groupsOf(all), sgd({ momentum: 0 }), {
        ...{ weight_decay: DECAY, grad_clip, ema },
      });
      const expected = all.map(({ data }) => ({ w: Float64Array.from(data), average: Float64Array.from(data) }));
      for (let step = 0; step < 20; step++) {
        setGrads(all, step, accumulated);
        const norm = Math.hypot(...all.map(({ grad }) => Math.hypot(...grad!))) / accumulated;
        const scale = (grad_clip > 0 ? Math.min(1, grad_clip / norm) : 1) / accumulated;
        const rate = 0.01 / (1 + step);
        const keep = Math.min(0.8, (1 + step) / (10 + step));
        for (const [i, { w, average }] of expected.entries()) {
          const shrink = all[i]!.shape.length > 1 ? 1 - rate * DECAY : 1;
          for (const [j, g] of all[i]!.grad!.entries()) {
            w[j] = w[j]! * shrink - rate * scale * g;
            average[j] = keep * average[j]! + (1 - keep) * w[j]!;
          }
        }
        const label = `norm of step ${step}`;
        assertClose([await update.run(rate, 1 / accumulated)], [norm], { atol: 0, rtol: 1e-6, label });
      }
      // weights and averages are stored in single precision: half a unit in the last place of 2, at each of 20 steps
      const tolerance = 20 * 2 ** -24 * 2;
      const averages = new Map(ema.arrays());
      for (const [i, { name, data }] of all.entries()) {
        assertClose(data, expected[i]!.w, { atol: tolerance, label: name });
        assertClose(averages.get(name)!, expected[i]!.average, { atol: tolerance, label: `average of ${name}` });
      }
      assert.deepEqual([update.steps, ema.steps], [20, 20]);
      await update.dispose();
    });
  }
}

for (const name of OPTIMIZERS) {
  test(`${name}: the same bits on one thread and on two, and again`, async () => {
    const results: Float32Array[][] = [];
    for (const threads of [1, 2, 2]) {
      const all = [
        new Parameter("matrix", [300, 700], { constant: 0 }, "hidden"),
        new Parameter("table", [900, 300], { constant: 0 }, "embedding"),
        new Parameter("bias", [2500], { constant: 0 }, "bias"),
      ];
      for (const { name, shape, data } of all) data.set(randomFloats(name, shape));
      setGrads(all, 0);
      const engine = await createEngine({ compile: true, threads });
      const options = { weight_decay: DECAY, grad_clip: 1, ema: new WeightAverage(all, 0.9) };
      const update = await Update.create(engine, groupsOf(all), createOptimizer(name, OPTIONS), options);
      for (let step = 0; step < 3; step++) {
        setGrads(all, step);
        await update.run(0.01);
      }
      results.push([...all, ...update.tensors(), ...options.ema.tensors()].map(({ data }) => data));
      await update.dispose();
    }
    for (const again of results.slice(1)) {
      for (const [i, data] of again.entries()) assertSameBits(data, results[0]![i]!, `array ${i}`);
    }
  });
}

test("a weight of more than a piece, and one with a rest: every number is updated once", async () => {
  const large = new Parameter("large", [1100, 1001], { constant: 1 }, "embedding"); // two pieces and 333 numbers
  const few = new Parameter("few", [1025], { constant: 1 }, "bias");
  for (const weight of [large, few]) weight.grad = new Float32Array(weight.size).fill(1);
  const groups = { decay: [], noDecay: [large, few] };
  const options = { weight_decay: 0, grad_clip: 0 };
  const update = await Update.create(compiled, groups, createOptimizer("sgd", OPTIONS), options);
  const norm = await update.run(0.5, 0.5);
  assertClose([norm], [0.5 * Math.sqrt(1100 * 1001 + 1025)], { atol: 0, rtol: 1e-9, label: "norm" });
  assert.ok([...large.data, ...few.data].every((w) => w === 0.75));
  for (const { data } of update.tensors()) assert.ok(data.every((v) => v === 0.5));
  await update.dispose();
});

test("a gradient that isn't finite leaves the EMA and its count alone too", async () => {
  const all = weights();
  setGrads(all, 0);
  const ema = new WeightAverage(all, 0.9);
  const update = await Update.create(compiled, groupsOf(all), createOptimizer("adamw", OPTIONS), {
    ...{ weight_decay: DECAY, grad_clip: 1, ema },
  });
  await update.run(0.01);
  const before = ema.tensors().map(({ data }) => data.slice());
  all[1]!.grad![3] = Number.NaN;
  assert.ok(Number.isNaN(await update.run(0.01)));
  assert.deepEqual(
    ema.tensors().map(({ data }) => data),
    before,
  );
  assert.deepEqual([update.steps, ema.steps], [1, 1]);
  assert.equal(sizeOf(all[0]!.shape), before[0]!.length);
  await update.dispose();
});
