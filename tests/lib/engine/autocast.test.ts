// Products in float16: rounding against a table and against every float16 there is, the compiled rounding against it to
// the bit, and both engines, and PyTorch's autocast, on layers and on whole models.
//
// Where an exact product lies near the middle of two float16 numbers, two programs that add in another order may round it
// to different ones: a step of float16 apart, 2^-10 of the number, or 2^-24 below 2^-14.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { fileURLToPath } from "node:url";
import { SafetensorsFile } from "../../../lib/common/safetensors.ts";
import { tf } from "../../../lib/common/tf.ts";
import { AutocastBuilder } from "../../../lib/engine/autocast.ts";
import { roundToHalf, withHalfProducts } from "../../../lib/engine/half.ts";
import type { Engine, RunOptions, Variable } from "../../../lib/engine/runtime/program.ts";
import { embedding } from "../../../lib/nn/embedding.ts";
import { groupedMatMul } from "../../../lib/nn/grouped_matmul.ts";
import { withRecompute } from "../../../lib/nn/recompute.ts";
import { GPT, type GPTConfig } from "../../../model.ts";
import {
  assertClose,
  assertSameBits,
  compiled,
  eager,
  randomBatch,
  randomFloats,
  randomVariable,
  shaken,
  sizeOf,
} from "../../support.ts";

const STEP = { atol: 2 ** -24, rtol: 2 ** -10 };
const ENGINES = { compiled, eager };

/** Pairs: a number, and the nearest float16. */
const TABLE: [number, number][] = [
  [0, 0],
  [-0, -0],
  [1, 1],
  [1 + 2 ** -11, 1], // the middle: to the even one
  [1 + 2 ** -11 + 2 ** -23, 1 + 2 ** -10],
  [1 + 3 * 2 ** -11, 1 + 2 ** -9],
  [0.1, 0.0999755859375],
  [2049, 2048],
  [2051, 2052],
  [-4095.9, -4096],
  [65_504, 65_504], // the largest
  [65_519.996, 65_504],
  [65_520, Infinity],
  [-1e30, -Infinity],
  [Infinity, Infinity],
  [2 ** -14, 2 ** -14], // the smallest with 11 bits
  [2 ** -14 - 2 ** -25, 2 ** -14],
  [3.3 * 2 ** -24, 3 * 2 ** -24],
  [2.5 * 2 ** -24, 2 * 2 ** -24],
  [-1.5 * 2 ** -24, -2 * 2 ** -24],
  [2 ** -24, 2 ** -24], // the smallest
  [2 ** -25, 0],
  [2 ** -25 + 2 ** -48, 2 ** -24],
  [-(2 ** -26), -0],
  [1e-40, 0],
];
const GIVEN = Float32Array.from(TABLE, ([x]) => x);
const ROUNDED = Float32Array.from(TABLE, ([, half]) => half);

/** Value, then gradients. */
async function run(
  engine: Engine,
  variables: readonly Variable[],
  body: () => tf.Tensor,
  { half = true, gradients = true, ...options }: RunOptions & { half?: boolean; gradients?: boolean } = {},
): Promise<Float32Array[]> {
  const program = await engine.program(body, { variables, inputs: {}, gradients, half });
  const value = await program.run({}, options);
  await program.dispose();
  return [value.slice(), ...(gradients ? variables.map(({ grad }) => grad!.slice()) : [])];
}

function variable(name: string, shape: number[], data: ArrayLike<number>): Variable {
  const made = randomVariable(name, shape);
  made.data.set(data);
  return made;
}

test("rounding to float16: a table, and every float16 with what lies halfway to the next", () => {
  assertSameBits(roundToHalf(GIVEN.slice()), ROUNDED, "table");
  assert.ok(Number.isNaN(roundToHalf(Float32Array.of(Number.NaN))[0]));
  const numbers: number[] = []; // from 0 up
  for (let exponent = 0; exponent < 31; exponent++) {
    for (let fraction = 0; fraction < 1024; fraction++) {
      numbers.push(exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
    }
  }
  const [given, expected] = [[] as number[], [] as number[]];
  for (const [i, number] of numbers.entries()) {
    const next = numbers[i + 1] ?? 65_536; // rounds as if it were there, and is infinity
    const [middle, above] = [(number + next) / 2, next === 65_536 ? Infinity : next];
    const near = middle * 2 ** -23; // a float32 step or so
    given.push(number, middle - near, middle, middle + near);
    expected.push(number, number, i % 2 === 0 ? number : above, above);
  }
  assertSameBits(roundToHalf(Float32Array.from(given)), Float32Array.from(expected), "positive");
  const negative = (x: number[]) => Float32Array.from(x, (number) => -number);
  assertSameBits(roundToHalf(negative(given)), negative(expected), "negative");
});

test("each form of product rounds what it is given and what it gives, to the bit, whatever the runtime makes of the casts", async () => {
  const n = GIVEN.length;
  const summed = (x: Float32Array) => x.map((number) => number + 0); // a sum has no -0
  const x = variable("x", [n, 1], GIVEN);
  const one = variable("one", [1, 1], [1]);
  const [x3, one3] = [variable("x3", [1, n, 1], GIVEN), variable("one3", [1, 1, 1], [1])];
  const forms: Record<string, [Variable[], (x: tf.Tensor, y: tf.Tensor) => tf.Tensor]> = {
    MatMul: [[x, one], (x, y) => tf.matMul(x, y)],
    Gemm: [[x, one], (x, y) => tf.matMul(x, y, false, true)],
    FusedMatMul: [[x3, one3], (x, y) => tf.matMul(x, y, false, true)],
    "second factor": [[one, x], (x, y) => tf.matMul(x, y, false, true)],
  };
  for (const [name, engine] of Object.entries(ENGINES)) {
    for (const [form, [variables, multiply]] of Object.entries(forms)) {
      const body = () => tf.reshape(multiply(variables[0]!.value, variables[1]!.value), [n]);
      const [product] = await run(engine, variables, body, { gradients: false });
      assertSameBits(summed(product!), summed(ROUNDED), `${name}: ${form}`);
      const [plain] = await run(engine, variables, body, { gradients: false, half: false });
      assertSameBits(summed(plain!), summed(GIVEN), `${name}: ${form} in float32`);
    }
    // factors that float16 holds, products that it doesn't: 2049, 2051, 90000, 62500, -1e6
    const [a, b] = [variable("a", [5, 2], [2048, 1, 2050, 1, 300, 0, 250, 0, -1000, 0]), [1, 1, 300, 250, 1000]];
    const diagonal = variable(
      "b",
      [5, 2, 1],
      b.flatMap((number) => [number, 1]),
    );
    const body = () => tf.reshape(tf.matMul(tf.reshape(a.value, [5, 1, 2]), diagonal.value), [5]);
    const [product] = await run(engine, [a, diagonal], body, { gradients: false });
    assert.deepEqual([...product!], [2048, 2052, Infinity, 62_496, -Infinity], name);
  }
});

test("tfjs has its own product back afterwards, also after an error", () => {
  const product = () => tf.matMul(tf.tensor2d([[2049]]), tf.tensor2d([[1]])).dataSync()[0];
  assert.equal(withHalfProducts(product), 2048);
  assert.equal(product(), 2049);
  assert.throws(() => withHalfProducts(() => assert.fail("in between")), /in between/);
  assert.equal(product(), 2049);
  const before = tf.memory().numTensors;
  tf.tidy(() => withHalfProducts(product));
  assert.equal(tf.memory().numTensors, before);
});

test("an operator with products inside that can't be rounded is refused", () => {
  const g = new AutocastBuilder();
  assert.throws(() => g.emit("GroupQueryAttention", ["q", "k", "v"]), /no float16 form of GroupQueryAttention/);
  assert.throws(() => g.emit("Gemm", ["a", "b", "c"]), /no float16 form of Gemm with 3 inputs/);
});

test("a gradient that float16 can't hold is 0 without a loss scale, and itself with one", async () => {
  const [x, w] = [randomVariable("x", [4, 6]), randomVariable("w", [6, 3])];
  const body = () => tf.mul(tf.sum(tf.matMul(x.value, w.value)), 1e-8) as tf.Scalar;
  for (const [name, engine] of Object.entries(ENGINES)) {
    const [, exact] = await run(engine, [w, x], body, { half: false });
    const [, lost] = await run(engine, [w, x], body);
    assert.deepEqual(new Set(lost), new Set([0]), name);
    const [value, scaled] = await run(engine, [w, x], body, { lossScale: 2 ** 24 });
    const grad = scaled!.map((number) => number / 2 ** 24);
    assertClose(grad, exact!, { atol: 2 ** -24 * 1e-7, rtol: 2 ** -9, label: name }); // three roundings
    assert.ok(
      grad.every((number) => number !== 0),
      name,
    );
    const [same] = await run(engine, [w, x], body, { lossScale: 1 });
    assertSameBits(value!, same!, `${name}: the value is not scaled`);
  }
});

test("compiled and eager products agree to a step of float16, in each form and in the gradients", async () => {
  const cases: Record<string, [Variable[], (...tensors: tf.Tensor[]) => tf.Tensor]> = {
    "[M, K] [K, N]": [[randomVariable("a", [9, 20]), randomVariable("b", [20, 7])], (a, b) => tf.matMul(a!, b!)],
    "[N, T, D] transposed": [
      [randomVariable("c", [3, 9, 20]), randomVariable("d", [3, 7, 20])],
      (a, b) => tf.matMul(a!, b!, false, true),
    ],
    grouped: [
      [randomVariable("e", [9, 6]), randomVariable("f", [3, 6, 5])],
      (x, weights) => groupedMatMul(x!, weights!, tf.tensor1d([4, 0, 5])),
    ],
  };
  for (const [label, [variables, operation]] of Object.entries(cases)) {
    const body = () => {
      const result = operation(...variables.map(({ value }) => value));
      return tf.sum(tf.mul(result, tf.tensor(randomFloats("dy", result.shape), result.shape))) as tf.Scalar;
    };
    const [one, other] = [await run(compiled, variables, body), await run(eager, variables, body)];
    for (const [i, grad] of one.slice(1).entries()) {
      assertClose(grad, other[i + 1]!, { ...STEP, label: `${label}: gradient ${i}` });
      assertSameBits(roundToHalf(grad.slice()), grad, `${label}: gradient ${i} is a float16`);
    }
    const [, exact] = await run(compiled, variables, body, { half: false });
    assert.ok(
      exact!.some((number, i) => number !== one[1]![i]),
      `${label}: as in float32`,
    );
  }
});

test("an embedding's gradient is a sum and stays in float32", async () => {
  const table = randomVariable("table", [5, 3]);
  const dy = randomFloats("dy", [4, 3]);
  const body = () => {
    const rows = embedding(table.value, tf.tensor2d([[0, 3, 3, 1]], [1, 4], "int32"));
    return tf.sum(tf.mul(tf.reshape(rows, [4, 3]), tf.tensor2d(dy, [4, 3]))) as tf.Scalar;
  };
  for (const [name, engine] of Object.entries(ENGINES)) {
    const [, half] = await run(engine, [table], body);
    assertSameBits(half!, (await run(engine, [table], body, { half: false }))[1]!, name);
    assertSameBits(half!.subarray(0, 3), dy.subarray(0, 3), name);
  }
});

/** A model's loss and gradients, with a scale of 1024 taken out again. */
async function gradientsOf(engine: Engine, model: GPT, options: { half: boolean; recompute?: boolean }) {
  const tokens = { shape: [2, model.config.block_size], dtype: "int32" } as const;
  const program = await engine.program(
    ({ x, y }, mask) => withRecompute(options.recompute ?? false, () => model.loss(x, y, mask)),
    { variables: model.parameters, inputs: { x: tokens, y: tokens }, gradients: true, half: options.half },
  );
  const lossScale = options.half ? 1024 : undefined;
  const [loss] = await program.run(randomBatch(model, 2), { dropout: [1], lossScale });
  await program.dispose();
  return { loss: loss!, grads: model.parameters.map(({ grad }) => grad!.map((number) => number / (lossScale ?? 1))) };
}

const largest = (x: Float32Array) => x.reduce((most, number) => Math.max(most, Math.abs(number)), 0);

test("models: compiled equals eager, recomputed equals kept, and neither is float32", async () => {
  const models: Record<string, Partial<GPTConfig>> = {
    gpt2: { dropout: 0.2 },
    llama: { pos: "rotary", norm: "rmsnorm", ffn: "swiglu", n_kv_head: 1, bias: false, tie_weights: false },
    moe: { ffn: "moe", n_expert: 4, bias: false },
  };
  for (const [name, changes] of Object.entries(models)) {
    const model = shaken(changes);
    const half = await gradientsOf(compiled, model, { half: true });
    const twin = await gradientsOf(eager, model, { half: true });
    const exact = await gradientsOf(compiled, model, { half: false });
    const again = await gradientsOf(compiled, model, { half: true, recompute: true });
    // A product that is rounded the other way moves all that come after it, by a step of float16 or two of the whole
    assertClose([half.loss], [twin.loss], { atol: 1e-4, label: name });
    let away = 0;
    for (const [i, grad] of half.grads.entries()) {
      const label = `${name}: ${model.parameters[i]!.name}`;
      assertClose(grad, twin.grads[i]!, { atol: 2 ** -9 * largest(twin.grads[i]!), label });
      assertSameBits(again.grads[i]!, grad, `${label}, recomputed`);
      away = Math.max(away, ...grad.map((number, j) => Math.abs(number - exact.grads[i]![j]!) / largest(grad)));
    }
    assert.ok(away > 2 ** -12 && away < 0.05, `${name}: ${away} away from float32`);
  }
});

test("PyTorch's autocast gives these gradients, and overflows where we do", async () => {
  const path = (name: string) => fileURLToPath(new URL(`../../fixtures/${name}`, import.meta.url));
  const recorded = JSON.parse(readFileSync(path("autocast.json"), "utf8"));
  const start = JSON.parse(readFileSync(path("torch_gelu_bias.json"), "utf8"));
  const model = new GPT({ ...start.model, dropout: 0 });
  const [weights, grads] = ["torch_gelu_bias", "autocast"].map(
    (name) => new SafetensorsFile(path(`${name}.safetensors`)),
  );
  for (const { name, shape, data } of model.parameters) weights!.read(`weights/${name}`, shape, data);
  const [B, T] = [start.batch_size, model.config.block_size];
  const batches = (name: string) => {
    const shape = [start.losses.length, start.accumulation, B, T];
    const all = new Int32Array(sizeOf(shape));
    weights!.read(name, shape, all);
    return all.subarray(0, B * T);
  };
  const tokens = { shape: [B, T], dtype: "int32" } as const;
  const spec = { variables: model.parameters, inputs: { x: tokens, y: tokens }, gradients: true, half: true };
  for (const [engineName, engine] of Object.entries(ENGINES)) {
    const program = await engine.program(({ x, y }) => model.loss(x, y), spec);
    const inputs = { x: batches("x"), y: batches("y") };
    const [loss] = await program.run(inputs, { lossScale: recorded.scale });
    assertClose([loss!], [recorded.loss], { atol: 5e-4, label: `${engineName}: loss` }); // a step of float16 in the logits
    for (const { name, shape, grad } of model.parameters) {
      const expected = new Float32Array(sizeOf(shape));
      grads!.read(`grads/${name}`, shape, expected);
      const actual = grad!.map((number) => number / recorded.scale);
      // PyTorch divides the scores by sqrt(D) after their product and rounds them once more. It is itself up to 1.8e-3 of
      // the largest gradient away from float32; two such roundings are further apart than each is from what it rounds
      assertClose(actual, expected, { atol: 4e-3 * largest(expected), label: `${engineName}: ${name}` });
    }
    await program.run(inputs, { lossScale: recorded.too_large });
    const notFinite = model.parameters.filter(({ grad }) => !grad!.every(Number.isFinite)).map(({ name }) => name);
    assert.deepEqual(notFinite, recorded.not_finite, engineName);
    await program.dispose();
  }
  for (const file of [weights, grads]) file!.close();
});
