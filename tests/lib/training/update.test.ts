// The update of all weights, for every optimizer against its slow twin (optimizers/plain.ts): clipping, gradients that were
// added up, decay, the EMA, large weights that are taken in pieces; compiled and eager. Against PyTorch: optimizers/torch.test.ts.

import assert from "node:assert/strict";
import test from "node:test";

import { createEngine } from "../../../lib/engine/runtime/program.ts";
import { Parameter } from "../../../lib/nn/parameter.ts";
import { OPTIMIZERS, type OptimizerName } from "../../../lib/training/choices.ts";
import { WeightAverage } from "../../../lib/training/ema.ts";
import { createOptimizer } from "../../../lib/training/optimizers/create.ts";
import { Update } from "../../../lib/training/update.ts";
import { assertClose, assertSameBits, compiled, eager, randomFloats, sizeOf } from "../../support.ts";
import { type PlainWeight, plain } from "./optimizers/plain.ts";

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

/** All of it in double precision: clipping by the global norm, the steps, the EMA. */
class PlainUpdate {
  readonly weights: (PlainWeight & { average: Float64Array })[];
  readonly #step: ReturnType<(typeof plain)["adamw"]>;
  readonly #clip: number;
  readonly #ema: number;
  #t = 0;

  constructor(all: readonly Parameter[], name: OptimizerName, clip: number, ema: number) {
    this.#step = plain[name](OPTIONS as Parameters<(typeof plain)["adamw"]>[0]);
    [this.#clip, this.#ema] = [clip, ema];
    this.weights = all.map(({ name, shape, role, splits, data }) => {
      const w = Float64Array.from(data);
      return { name, shape, role, splits, w, state: {}, average: w.slice() };
    });
  }

  run(grads: readonly Float64Array[], rate: number): number {
    const norm = Math.hypot(...grads.map((g) => Math.hypot(...g)));
    const scale = this.#clip > 0 && norm > this.#clip ? this.#clip / norm : 1;
    const decay = Math.min(this.#ema, (1 + this.#t) / (10 + this.#t));
    this.#t++;
    for (const [i, weight] of this.weights.entries()) {
      const scaled = grads[i]!.map((g) => g * scale);
      this.#step(weight, scaled, this.#t, rate, weight.shape.length > 1 ? DECAY : 0);
      for (const [j, w] of weight.w.entries()) weight.average[j] = decay * weight.average[j]! + (1 - decay) * w;
    }
    return norm;
  }
}

for (const name of OPTIMIZERS) {
  for (const [kind, engine] of Object.entries({ compiled, eager })) {
    for (const [grad_clip, accumulated] of [
      [0, 1],
      [0.5, 4],
      [100, 4],
    ] as const) {
      test(`${name}, ${kind}: 20 steps equal the twin: clip ${grad_clip}, ${accumulated} gradients added up`, async () => {
        const all = weights();
        setGrads(all, 0);
        const ema = new WeightAverage(all, 0.8);
        const options = { weight_decay: DECAY, grad_clip, ema };
        const fast = await Update.create(engine, groupsOf(all), createOptimizer(name, OPTIONS), options);
        const slow = new PlainUpdate(all, name, grad_clip, 0.8);
        for (let step = 0; step < 20; step++) {
          setGrads(all, step, accumulated);
          const grads = all.map(({ grad }) => Float64Array.from(grad!, (g) => g / accumulated));
          const rate = 0.01 / (1 + step);
          const norms = [await fast.run(rate, 1 / accumulated), slow.run(grads, rate)] as const;
          assertClose([norms[0]], [norms[1]], { atol: 0, rtol: 1e-6, label: `norm of step ${step}` });
        }
        // weights and averages are stored in single precision: half a unit in the last place of 2, at each of 20 steps
        const tolerance = 20 * 2 ** -24 * 2;
        const averages = new Map(ema.arrays());
        const state = new Map(fast.tensors().map(({ name, data }) => [name, data]));
        for (const [i, { name, w, average, state: plainState }] of slow.weights.entries()) {
          assertClose(all[i]!.data, w, { atol: tolerance, label: name });
          assertClose(averages.get(name)!, average, { atol: tolerance, label: `average of ${name}` });
          for (const [key, numbers] of Object.entries(plainState)) {
            assertClose(state.get(`optimizer.${key}.${name}`)!, numbers, {
              atol: tolerance,
              rtol: 1e-5,
              label: `${key} ${name}`,
            });
          }
        }
        assert.equal(
          state.size,
          slow.weights.reduce((sum, weight) => sum + Object.keys(weight.state).length, 0),
        );
        assert.deepEqual([fast.steps, ema.steps], [20, 20]);
        await fast.dispose();
      });
    }
  }

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
