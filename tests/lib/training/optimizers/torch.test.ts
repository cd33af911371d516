// 20 steps of every optimizer against PyTorch's, in double precision (tests/fixtures/make_optimizer_fixtures.py), and what
// all of them promise: the state goes on where it was, a gradient that isn't finite changes nothing, decay is apart.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { UserError } from "../../../../lib/common/errors.ts";
import { z } from "../../../../lib/common/zod.ts";
import { Parameter, type Role } from "../../../../lib/nn/parameter.ts";
import { OPTIMIZERS, type OptimizerName } from "../../../../lib/training/choices.ts";
import { checkSameOptimizer, createOptimizer } from "../../../../lib/training/optimizers/create.ts";
import { optimizerState, Update } from "../../../../lib/training/update.ts";
import { assertClose, assertSameBits, compiled, eager, sizeOf } from "../../../support.ts";

const Fixture = z.object({
  steps: z.int(),
  decay: z.number(),
  clip: z.number(),
  shapes: z.record(z.string(), z.array(z.int())),
  cases: z.record(
    z.enum(OPTIMIZERS),
    z.object({ rate: z.number(), norms: z.array(z.number()), final: z.record(z.string(), z.array(z.number())) }),
  ),
});
const path = new URL("../../../fixtures/optimizers.json", import.meta.url);
const fixture = Fixture.parse(JSON.parse(readFileSync(path, "utf8")));

/** The numbers of the script's function of this name. */
function draw(seed: number, count: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => {
    let x = (Math.imul(i, 2654435761) + Math.imul(seed, 2246822519) + 374761393) >>> 0;
    for (const [shift, factor] of [
      [15, 2246822519],
      [13, 3266489917],
    ] as const) {
      x = Math.imul(x ^ (x >>> shift), factor) >>> 0;
    }
    x = (x ^ (x >>> 16)) >>> 0;
    return x / 2 ** 31 - 1;
  });
}

const optimizer = (name: OptimizerName) =>
  createOptimizer(name, { beta1: 0.9, beta2: name === "lion" ? 0.99 : 0.95, momentum: 0.95 });

/** The script's weights, with their roles. */
function scriptWeights(): Parameter[] {
  return Object.entries(fixture.shapes).map(([name, shape], i) => {
    const role: Role = name.includes("wte") ? "embedding" : shape.length > 1 ? "hidden" : "bias";
    const splits = name.endsWith("c_attn.weight") ? [6, 6, 6] : undefined;
    const weight = new Parameter(name, shape, { constant: 0 }, role, splits);
    weight.data.set(draw(i, sizeOf(shape)));
    weight.grad = new Float32Array(weight.size);
    return weight;
  });
}

/** The script's weights, and the update of them. */
async function make(name: OptimizerName, engine = compiled) {
  const weights = scriptWeights();
  const decay = weights.filter(({ shape }) => shape.length > 1);
  const noDecay = weights.filter(({ shape }) => shape.length === 1);
  const options = { weight_decay: fixture.decay, grad_clip: fixture.clip };
  return { weights, update: await Update.create(engine, { decay, noDecay }, optimizer(name), options) };
}
type Made = Awaited<ReturnType<typeof make>>;

/** Step number `step` of the script; `accumulated` times the gradient, divided again. */
async function advance({ weights, update }: Made, name: OptimizerName, step: number, accumulated = 1) {
  for (const [i, weight] of weights.entries()) {
    const factor = (step % 3 === 2 ? 1 / 8 : 1) * 2 ** ((i % 3) - 1) * accumulated;
    weight.grad!.set(draw(1000 + 100 * step + i, weight.size).map((number) => number * factor));
  }
  return update.run(fixture.cases[name].rate / (1 + step / 10), 1 / accumulated);
}

// weights are stored in single precision: half a unit in the last place of numbers below 2, at each of 20 steps
const TOLERANCE = 20 * 2 ** -24;

for (const name of OPTIMIZERS) {
  for (const [kind, engine, accumulated] of [
    ["compiled", compiled, 1],
    ["compiled", compiled, 4],
    ["eager", eager, 4],
  ] as const) {
    test(`${name}, ${kind}: ${fixture.steps} steps equal PyTorch's, ${accumulated} gradients added up`, async () => {
      const made = await make(name, engine);
      const { norms, final } = fixture.cases[name];
      for (let step = 0; step < fixture.steps; step++) {
        const norm = await advance(made, name, step, accumulated);
        assertClose([norm], [norms[step]!], { atol: 0, rtol: 1e-6, label: `norm of step ${step}` });
      }
      assert.equal(made.update.steps, fixture.steps);
      for (const { name: weight, data } of made.weights) {
        assertClose(data, final[weight]!, { atol: TOLERANCE, label: weight });
      }
    });
  }

  test(`${name}: matrices of a stack are updated as one matrix is`, async () => {
    const shape = [4, 6];
    const [one, stack] = [shape, [2, ...shape]].map((shape) => new Parameter("experts", shape, { constant: 0 }));
    for (const data of [one!.data, stack!.data.subarray(0, 24), stack!.data.subarray(24)]) data.set(draw(1, 24));
    for (const weight of [one!, stack!]) {
      weight.grad = new Float32Array(weight.size);
      const groups = { decay: [weight], noDecay: [] };
      const update = await Update.create(compiled, groups, optimizer(name), { weight_decay: 0.1, grad_clip: 0 });
      for (let step = 0; step < 5; step++) {
        for (let at = 0; at < weight.size; at += 24) weight.grad.set(draw(2 + step, 24), at);
        await update.run(0.01);
      }
      await update.dispose();
    }
    for (const at of [0, 24])
      assertClose(stack!.data.subarray(at, at + 24), one!.data, { atol: TOLERANCE, label: `from ${at}` });
  });

  test(`${name}: the restored state goes on to the bit`, async () => {
    const whole = await make(name);
    const first = await make(name);
    const second = await make(name);
    for (let step = 0; step < 8; step++) await advance(whole, name, step);
    for (let step = 0; step < 4; step++) await advance(first, name, step);
    for (const [i, { data }] of second.weights.entries()) data.set(first.weights[i]!.data);
    for (const [i, tensor] of first.update.tensors().entries()) {
      const place = second.update.tensors()[i]!;
      assert.equal(place.name, tensor.name);
      place.data.set(tensor.data);
    }
    second.update.steps = first.update.steps;
    for (let step = 4; step < 8; step++) await advance(second, name, step);
    for (const [i, { name, data }] of second.weights.entries()) {
      assertSameBits(data, whole.weights[i]!.data, name);
    }
  });

  test(`${name}: state tensors have names of their own and the shapes that they say`, async () => {
    const tensors = scriptWeights().flatMap((weight) => optimizerState(optimizer(name), weight));
    assert.equal(new Set(tensors.map((tensor) => tensor.name)).size, tensors.length);
    for (const { name, shape, data } of tensors) {
      assert.match(name, /^optimizer\.[a-z_]+\.transformer\./);
      assert.equal(sizeOf(shape), data.length, name);
    }
  });

  test(`${name}: a gradient with one infinity or NaN changes nothing`, async () => {
    for (const bad of [Number.POSITIVE_INFINITY, Number.NaN]) {
      const made = await make(name);
      await advance(made, name, 0);
      const before = stateOf(made);
      made.weights[2]!.grad![5] = bad;
      const norm = await made.update.run(0.1);
      assert.ok(!Number.isFinite(norm));
      assert.deepEqual(stateOf(made), before);
      assert.equal(made.update.steps, 1);
    }
  });

  test(`${name}: gradients of 0 leave what doesn't decay, and the rest shrinks by rate times decay`, async () => {
    const made = await make(name);
    const before = made.weights.map(({ data }) => data.slice());
    assert.equal(await made.update.run(0.5), 0);
    for (const [i, { shape, data, name }] of made.weights.entries()) {
      const shrink = shape.length > 1 ? 1 - 0.5 * fixture.decay : 1;
      const expected = before[i]!.map((number) => number * shrink);
      assertClose(data, expected, { atol: 1e-7, label: name }); // a rounding of numbers below 1
    }
  });
}

function stateOf({ weights, update }: Made) {
  return [...weights, ...update.tensors()].map(({ data }) => data.slice());
}

test("state a weight: two numbers with adamw, one with lion and sgd, next to none with adafactor", () => {
  const weight = new Parameter("transformer.h.0.mlp.c_fc.weight", [30, 40], { constant: 0 });
  const count = (name: OptimizerName) =>
    optimizerState(optimizer(name), weight).reduce((sum, { data }) => sum + data.length, 0);
  assert.deepEqual(Object.fromEntries(OPTIMIZERS.map((name) => [name, count(name)])), {
    adamw: 2400,
    lion: 1200,
    muon: 1200,
    adafactor: 70,
    sgd: 1200,
  });
});

test("adafactor has an average for every row and column of every matrix of a stack", () => {
  const state = optimizer("adafactor").state(new Parameter("stack", [3, 4, 5], { constant: 0 }));
  assert.deepEqual(state, { row_var: [3, 4, 1], col_var: [3, 1, 5] });
});

test("a checkpoint of another optimizer is refused; one without the key is adamw's", () => {
  checkSameOptimizer("adamw", {}, "out");
  checkSameOptimizer("lion", { optimizer: "lion" }, "out");
  assert.throws(
    () => checkSameOptimizer("muon", {}, "out"),
    (error) =>
      error instanceof UserError &&
      /^the checkpoint in out has the state of --optimizer=adamw, not of muon/.test(error.message),
  );
});
