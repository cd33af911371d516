// AdamW by hand: the first step, clipping, epsilon. Against its slow twin: ../update.test.ts, against PyTorch: torch.test.ts.

import assert from "node:assert/strict";
import test from "node:test";
import type { Parameter } from "../../../../lib/nn/parameter.ts";
import { type AdamWOptions, adamw } from "../../../../lib/training/optimizers/adamw.ts";
import type { Groups } from "../../../../lib/training/optimizers/optimizer.ts";
import { Update } from "../../../../lib/training/update.ts";
import { assertClose, compiled, randomVariable } from "../../../support.ts";

const OPTIONS = { beta1: 0.9, beta2: 0.95 };

function variable(name: string, weights: number[], grads: number[]): Parameter {
  const made = randomVariable(name, [weights.length]);
  made.data.set(weights);
  made.grad = Float32Array.from(grads);
  return made;
}

const create = (groups: Groups, { grad_clip = 0, ...changes }: Partial<AdamWOptions> & { grad_clip?: number } = {}) =>
  Update.create(compiled, groups, adamw({ ...OPTIONS, ...changes }), { weight_decay: 0.1, grad_clip });

test("the first step by hand: each weight moves by the learning rate, against its gradient's sign", async () => {
  const decayed = variable("w", [1, -2], [0.5, -4]);
  const plain = variable("b", [3], [1e-3]);
  const optimizer = await create({ decay: [decayed], noDecay: [plain] });
  const norm = await optimizer.run(0.01);
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

test("clipping: the averages see a gradient of the allowed length, and a short one is left alone", async () => {
  const long = variable("long", [0, 0], [30, 40]);
  const clipped = await create({ decay: [], noDecay: [long] }, { grad_clip: 1 });
  assert.equal(await clipped.run(0.1), 50, "the norm is the one before clipping");
  assertClose(clipped.tensors()[0]!.data, [0.06, 0.08], { atol: 1e-7, label: "average of the clipped gradient" });
  const short = variable("short", [0, 0], [0.3, 0.4]);
  const free = await create({ decay: [], noDecay: [short] }, { grad_clip: 1 });
  await free.run(0.1);
  assertClose(free.tensors()[0]!.data, [0.03, 0.04], { atol: 1e-8, label: "average" });
});

test("the norm is of the scaled gradient, so it is this that is clipped", async () => {
  const summed = variable("summed", [0, 0], [30, 40]);
  const optimizer = await create({ decay: [], noDecay: [summed] }, { grad_clip: 1 });
  assertClose([await optimizer.run(0.1, 1 / 100)], [0.5], { atol: 1e-7, label: "norm" });
  assertClose(optimizer.tensors()[0]!.data, [0.03, 0.04], { atol: 1e-8, label: "average" });
});

test("epsilon is added to the corrected root: a gradient of its size moves half as far", async () => {
  const tiny = variable("tiny", [0], [1e-8]);
  await (await create({ decay: [], noDecay: [tiny] })).run(0.01);
  assertClose(tiny.data, [-0.005], { atol: 1e-8, label: "epsilon 1e-8" });
  const damped = variable("damped", [0], [1]);
  await (await create({ decay: [], noDecay: [damped] }, { epsilon: 3 })).run(0.01);
  assertClose(damped.data, [-0.0025], { atol: 1e-8, label: "epsilon 3" });
});

test("a step with gradient 0 decays only what shall decay", async () => {
  const [w, b] = [variable("w", [2], [0]), variable("b", [2], [0])];
  await (await create({ decay: [w], noDecay: [b] })).run(0.5);
  assertClose(w.data, [2 * (1 - 0.05)], { atol: 1e-7, label: "w" });
  assert.equal(b.data[0], 2);
});
