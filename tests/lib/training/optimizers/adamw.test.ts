// AdamW against a step by hand and against a slow, obvious version in double precision.

import assert from "node:assert/strict";
import test from "node:test";
import type { Variable } from "../../../../lib/engine/runtime/program.ts";
import { AdamW, type AdamWOptions } from "../../../../lib/training/optimizers/adamw.ts";
import { assertClose, randomFloats, randomVariable } from "../../../support.ts";

const OPTIONS = { beta1: 0.9, beta2: 0.95, weight_decay: 0.1, grad_clip: 0 };

function variable(name: string, weights: number[], grads: number[]): Variable {
  const made = randomVariable(name, [weights.length]);
  made.data.set(weights);
  made.grad = Float32Array.from(grads);
  return made;
}

test("the first step by hand: each weight moves by the learning rate, against its gradient's sign", async () => {
  const decayed = variable("w", [1, -2], [0.5, -4]);
  const plain = variable("b", [3], [1e-3]);
  const optimizer = new AdamW({ decay: [decayed], noDecay: [plain] }, OPTIONS);
  const norm = await optimizer.step(0.01);
  // m / (1 - beta1) = g and v / (1 - beta2) = g^2, so the update is g / (|g| + epsilon); the decay is 0.01 * 0.1 of w
  assertClose(decayed.data, [1 * 0.999 - 0.01, -2 * 0.999 + 0.01], { atol: 1e-6, label: "decayed" });
  assertClose(plain.data, [3 - 0.01], { atol: 1e-6, label: "not decayed" });
  assertClose([norm], [Math.hypot(0.5, 4, 1e-3)], { atol: 1e-6, label: "norm" });
  assert.equal(optimizer.steps, 1);
  const averages = Object.fromEntries(optimizer.tensors().map(({ name, data }) => [name, data]));
  assertClose(averages["optimizer.exp_avg.w"]!, [0.05, -0.4], { atol: 1e-7, label: "average" });
  assertClose(averages["optimizer.exp_avg_sq.w"]!, [0.05 * 0.25, 0.05 * 16], { atol: 1e-7, label: "square" });
  assert.deepEqual(Object.keys(averages), [
    "optimizer.exp_avg.w",
    "optimizer.exp_avg_sq.w",
    "optimizer.exp_avg.b",
    "optimizer.exp_avg_sq.b",
  ]);
});

/** Algorithm 2 of the paper as it stands there, in double precision, one number at a time. */
class SlowAdamW {
  readonly weights: Map<string, number[]>;
  readonly #decays: Set<string>;
  readonly #options: AdamWOptions;
  readonly #m = new Map<string, number[]>();
  readonly #v = new Map<string, number[]>();
  #t = 0;

  constructor(variables: readonly Variable[], decays: Set<string>, options: AdamWOptions) {
    this.weights = new Map(variables.map(({ name, data }) => [name, [...data]]));
    this.#decays = decays;
    this.#options = options;
    for (const { name, data } of variables) {
      this.#m.set(name, new Array<number>(data.length).fill(0));
      this.#v.set(name, new Array<number>(data.length).fill(0));
    }
  }

  step(grads: Map<string, number[]>, learningRate: number): number {
    const { beta1, beta2, weight_decay, grad_clip, epsilon = 1e-8 } = this.#options;
    this.#t++;
    const norm = Math.sqrt([...grads.values()].flat().reduce((sum, g) => sum + g ** 2, 0));
    const scale = grad_clip > 0 && norm > grad_clip ? grad_clip / norm : 1;
    for (const [name, w] of this.weights) {
      const [m, v] = [this.#m.get(name)!, this.#v.get(name)!];
      for (let i = 0; i < w.length; i++) {
        const g = grads.get(name)![i]! * scale;
        if (this.#decays.has(name)) w[i]! -= learningRate * weight_decay * w[i]!;
        m[i] = beta1 * m[i]! + (1 - beta1) * g;
        v[i] = beta2 * v[i]! + (1 - beta2) * g ** 2;
        const [mHat, vHat] = [m[i]! / (1 - beta1 ** this.#t), v[i]! / (1 - beta2 ** this.#t)];
        w[i]! -= (learningRate * mHat) / (Math.sqrt(vHat) + epsilon);
      }
    }
    return norm;
  }
}

for (const grad_clip of [0, 0.5, 100]) {
  for (const accumulated of [1, 4]) {
    test(`30 steps equal the slow version: clip ${grad_clip}, ${accumulated} gradients added up`, async () => {
      const decay = [randomVariable("w", [4, 5]), randomVariable("e", [3, 2])];
      const noDecay = [randomVariable("b", [7])];
      const variables = [...decay, ...noDecay];
      const options = { ...OPTIONS, grad_clip };
      const fast = new AdamW({ decay, noDecay }, options);
      const slow = new SlowAdamW(variables, new Set(["w", "e"]), options);
      for (let step = 0; step < 30; step++) {
        const grads = new Map<string, number[]>();
        for (const variable of variables) {
          variable.grad = randomFloats(`grad ${step} ${variable.name}`, variable.shape);
          grads.set(
            variable.name,
            [...variable.grad].map((g) => g / accumulated),
          );
        }
        const rate = 0.01 / (1 + step);
        const norms = [await fast.step(rate, 1 / accumulated), slow.step(grads, rate)] as const;
        assertClose([norms[0]], [norms[1]], { atol: 0, rtol: 1e-6, label: `norm of step ${step}` });
      }
      // weights and averages are stored in single precision: half a unit in the last place of 2, at each of 30 steps
      const tolerance = 30 * 2 ** -24 * 2;
      for (const { name, data } of variables) {
        assertClose(data, slow.weights.get(name)!, { atol: tolerance, label: name });
      }
    });
  }
}

test("clipping: the averages see a gradient of the allowed length, and a short one is left alone", async () => {
  const long = variable("long", [0, 0], [30, 40]);
  const clipped = new AdamW({ decay: [], noDecay: [long] }, { ...OPTIONS, grad_clip: 1 });
  assert.equal(await clipped.step(0.1), 50, "the norm is the one before clipping");
  assertClose(clipped.tensors()[0]!.data, [0.06, 0.08], { atol: 1e-7, label: "average of the clipped gradient" });
  const short = variable("short", [0, 0], [0.3, 0.4]);
  const free = new AdamW({ decay: [], noDecay: [short] }, { ...OPTIONS, grad_clip: 1 });
  await free.step(0.1);
  assertClose(free.tensors()[0]!.data, [0.03, 0.04], { atol: 1e-8, label: "average" });
});

test("the norm is of the scaled gradient, so it is this that is clipped", async () => {
  const summed = variable("summed", [0, 0], [30, 40]);
  const optimizer = new AdamW({ decay: [], noDecay: [summed] }, { ...OPTIONS, grad_clip: 1 });
  assertClose([await optimizer.step(0.1, 1 / 100)], [0.5], { atol: 1e-7, label: "norm" });
  assertClose(optimizer.tensors()[0]!.data, [0.03, 0.04], { atol: 1e-8, label: "average" });
});

test("epsilon is added to the corrected root: a gradient of its size moves half as far", async () => {
  const tiny = variable("tiny", [0], [1e-8]);
  await new AdamW({ decay: [], noDecay: [tiny] }, OPTIONS).step(0.01);
  assertClose(tiny.data, [-0.005], { atol: 1e-8, label: "epsilon 1e-8" });
  const damped = variable("damped", [0], [1]);
  await new AdamW({ decay: [], noDecay: [damped] }, { ...OPTIONS, epsilon: 3 }).step(0.01);
  assertClose(damped.data, [-0.0025], { atol: 1e-8, label: "epsilon 3" });
});

test("a step with gradient 0 decays only what shall decay", async () => {
  const [w, b] = [variable("w", [2], [0]), variable("b", [2], [0])];
  await new AdamW({ decay: [w], noDecay: [b] }, OPTIONS).step(0.5);
  assertClose(w.data, [2 * (1 - 0.05)], { atol: 1e-7, label: "w" });
  assert.equal(b.data[0], 2);
});

test("restored averages and step count go on as if nothing had happened", async () => {
  const make = () => {
    const w = randomVariable("w", [6]);
    return { w, optimizer: new AdamW({ decay: [w], noDecay: [] }, OPTIONS) };
  };
  const step = async ({ w, optimizer }: ReturnType<typeof make>, i: number) => {
    w.grad = randomFloats(`g${i}`, [6]);
    await optimizer.step(0.01);
  };
  const whole = make();
  for (let i = 0; i < 6; i++) await step(whole, i);
  const first = make();
  for (let i = 0; i < 3; i++) await step(first, i);
  const second = make();
  second.w.data.set(first.w.data);
  second.optimizer.tensors().forEach(({ data }, i) => {
    data.set(first.optimizer.tensors()[i]!.data);
  });
  second.optimizer.steps = first.optimizer.steps;
  for (let i = 3; i < 6; i++) await step(second, i);
  assert.deepEqual(second.w.data, whole.w.data);
});
