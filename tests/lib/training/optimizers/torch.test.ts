// 20 steps of every optimizer against PyTorch's, in double precision (tests/fixtures/make_optimizer_fixtures.py), and what
// all of them promise: the state goes on where it was, a gradient that isn't finite changes nothing, decay is apart.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import * as z from "zod/mini";
import { UserError } from "../../../../lib/common/errors.ts";
import type { Variable } from "../../../../lib/engine/runtime/program.ts";
import { Parameter } from "../../../../lib/nn/parameter.ts";
import { OPTIMIZERS, type OptimizerName } from "../../../../lib/training/choices.ts";
import type { Optimizer } from "../../../../lib/training/optimizers/adamw.ts";
import {
  checkSameOptimizer,
  createOptimizer,
  type OptimizerOptions,
} from "../../../../lib/training/optimizers/create.ts";
import { assertClose, assertSameBits, compiled, eager, randomFloats, sizeOf } from "../../../support.ts";

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

const OPTIONS: Record<OptimizerName, OptimizerOptions> = Object.fromEntries(
  OPTIMIZERS.map((name) => {
    const beta2 = name === "lion" ? 0.99 : 0.95;
    return [name, { beta1: 0.9, beta2, momentum: 0.95, weight_decay: fixture.decay, grad_clip: fixture.clip }];
  }),
) as Record<OptimizerName, OptimizerOptions>;

/** The script's weights, and an optimizer for them. */
async function make(name: OptimizerName, changes: Partial<OptimizerOptions> = {}, engine = compiled) {
  const variables: Variable[] = Object.entries(fixture.shapes).map(([name, shape], i) => {
    const variable = new Parameter(name, shape, { constant: 0 });
    variable.data.set(draw(i, sizeOf(shape)));
    return variable;
  });
  const decay = variables.filter(({ shape }) => shape.length > 1);
  const noDecay = variables.filter(({ shape }) => shape.length === 1);
  const options = { ...OPTIONS[name], ...changes };
  return { variables, optimizer: await createOptimizer(name, { decay, noDecay }, options, engine) };
}
type Made = Awaited<ReturnType<typeof make>>;

/** Step number `step` of the script; `accumulated` times the gradient, divided again. */
async function advance({ variables, optimizer }: Made, name: OptimizerName, step: number, accumulated = 1) {
  for (const [i, variable] of variables.entries()) {
    const factor = (step % 3 === 2 ? 1 / 8 : 1) * 2 ** ((i % 3) - 1) * accumulated;
    variable.grad = draw(1000 + 100 * step + i, variable.data.length).map((number) => number * factor);
  }
  return optimizer.step(fixture.cases[name].rate / (1 + step / 10), 1 / accumulated);
}

// weights are stored in single precision: half a unit in the last place of numbers below 2, at each of 20 steps
const TOLERANCE = 20 * 2 ** -24;

for (const name of OPTIMIZERS) {
  for (const accumulated of [1, 4]) {
    test(`${name}: ${fixture.steps} steps equal PyTorch's, ${accumulated} gradients added up`, async () => {
      const made = await make(name);
      const { norms, final } = fixture.cases[name];
      for (let step = 0; step < fixture.steps; step++) {
        const norm = await advance(made, name, step, accumulated);
        assertClose([norm], [norms[step]!], { atol: 0, rtol: 1e-6, label: `norm of step ${step}` });
      }
      assert.equal(made.optimizer.steps, fixture.steps);
      for (const { name: weight, data } of made.variables) {
        assertClose(data, final[weight]!, { atol: TOLERANCE, label: weight });
      }
    });
  }

  test(`${name}: the restored state goes on to the bit`, async () => {
    const whole = await make(name);
    const first = await make(name);
    const second = await make(name);
    for (let step = 0; step < 8; step++) await advance(whole, name, step);
    for (let step = 0; step < 4; step++) await advance(first, name, step);
    for (const [i, { data }] of second.variables.entries()) data.set(first.variables[i]!.data);
    for (const [i, tensor] of first.optimizer.tensors().entries()) {
      const place = second.optimizer.tensors()[i]!;
      assert.equal(place.name, tensor.name);
      place.data.set(tensor.data);
    }
    second.optimizer.steps = first.optimizer.steps;
    for (let step = 4; step < 8; step++) await advance(second, name, step);
    for (const [i, { name, data }] of second.variables.entries()) {
      assertSameBits(data, whole.variables[i]!.data, name);
    }
  });

  test(`${name}: state tensors have names of their own and the shapes that they say`, async () => {
    const { optimizer } = await make(name);
    const tensors = optimizer.tensors();
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
      made.variables[2]!.grad![5] = bad;
      const norm = await made.optimizer.step(0.1);
      assert.ok(!Number.isFinite(norm));
      assert.deepEqual(stateOf(made), before);
      assert.equal(made.optimizer.steps, 1);
    }
  });

  test(`${name}: gradients of 0 leave what doesn't decay, and the rest shrinks by rate times decay`, async () => {
    const made = await make(name);
    const before = made.variables.map(({ data }) => data.slice());
    for (const variable of made.variables) variable.grad = new Float32Array(variable.data.length);
    assert.equal(await made.optimizer.step(0.5), 0);
    for (const [i, { shape, data, name }] of made.variables.entries()) {
      const shrink = shape.length > 1 ? 1 - 0.5 * fixture.decay : 1;
      const expected = before[i]!.map((number) => number * shrink);
      assertClose(data, expected, { atol: 1e-7, label: name }); // a rounding of numbers below 1
    }
  });
}

function stateOf({ variables, optimizer }: { variables: Variable[]; optimizer: Optimizer }) {
  return [...variables, ...optimizer.tensors()].map(({ data }) => data.slice());
}

test("muon without a compiling engine is the same", async () => {
  const [fast, slow] = [await make("muon"), await make("muon", {}, eager)];
  for (let step = 0; step < 5; step++) {
    await advance(fast, "muon", step);
    await advance(slow, "muon", step);
  }
  for (const [i, { name, data }] of fast.variables.entries()) {
    assertClose(data, slow.variables[i]!.data, { atol: 5e-6, label: name });
  }
});

test("state a weight: two numbers with adamw, one with lion and sgd, next to none with adafactor", async () => {
  const variables = [new Parameter("transformer.h.0.mlp.c_fc.weight", [30, 40], { constant: 0 })];
  const count = async (name: OptimizerName) => {
    const optimizer = await createOptimizer(name, { decay: variables, noDecay: [] }, OPTIONS[name], compiled);
    return optimizer.tensors().reduce((sum, { data }) => sum + data.length, 0);
  };
  const counts = await Promise.all(OPTIMIZERS.map(count));
  assert.deepEqual(Object.fromEntries(OPTIMIZERS.map((name, i) => [name, counts[i]])), {
    adamw: 2400,
    lion: 1200,
    muon: 1200,
    adafactor: 70,
    sgd: 1200,
  });
});

test("adafactor factors a stack of matrices one by one", async () => {
  const shape = [3, 4, 5];
  const stack = new Parameter("stack", shape, { constant: 0 });
  stack.data.set(randomFloats("stack", shape));
  stack.grad = randomFloats("stack grad", shape);
  const options = { ...OPTIONS.adafactor, grad_clip: 0 };
  const optimizer = await createOptimizer("adafactor", { decay: [stack], noDecay: [] }, options, compiled);
  await optimizer.step(0.01);
  const [rows, columns] = optimizer.tensors();
  assert.deepEqual(
    [rows!.shape, columns!.shape],
    [
      [3, 4, 1],
      [3, 1, 5],
    ],
  );
  const grad = (n: number, r: number, c: number) => stack.grad![(n * 4 + r) * 5 + c]!;
  for (let n = 0; n < 3; n++) {
    for (let r = 0; r < 4; r++) {
      const mean = [0, 1, 2, 3, 4].reduce((sum, c) => sum + grad(n, r, c) ** 2 / 5, 0); // all of it is new at step 1
      assertClose([rows!.data[n * 4 + r]!], [mean], { atol: 1e-6, label: `row ${r} of matrix ${n}` });
    }
    for (let c = 0; c < 5; c++) {
      const mean = [0, 1, 2, 3].reduce((sum, r) => sum + grad(n, r, c) ** 2 / 4, 0);
      assertClose([columns!.data[n * 5 + c]!], [mean], { atol: 1e-6, label: `column ${c} of matrix ${n}` });
    }
  }
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
