// GELU: against tfjs' own gradients, and against values computed here in double precision.

import assert from "node:assert/strict";
import test from "node:test";

import * as tf from "@tensorflow/tfjs";

import { gelu, geluTanh } from "../../nn/activation.ts";
import { assertClose, assertLayer, compiled, eager, evaluate, floats, type Operation } from "../support.ts";

/** tfjs' and ONNX Runtime's erf are polynomials, good to 2e-7; here times x up to 4. */
const TOLERANCE = { atol: 2e-6, rtol: 2e-6 };

const plainGelu = (x: tf.Tensor) => tf.mul(tf.mul(x, 0.5), tf.add(1, tf.erf(tf.div(x, Math.SQRT2))));
const plainTanh = (x: tf.Tensor) => {
  const inner = tf.mul(Math.sqrt(2 / Math.PI), tf.add(x, tf.mul(0.044715, tf.mul(x, tf.mul(x, x)))));
  return tf.mul(tf.mul(x, 0.5), tf.add(1, tf.tanh(inner)));
};

for (const shape of [[], [1], [7], [3, 5], [2, 3, 4]]) {
  test(`[${shape}]: equal to the formulas with tfjs' own gradients`, async () => {
    const args = [floats("x", shape, -4, 4)];
    // tfjs' gradient of erf goes through exp(-x^2), ours through exp(-x^2 / 2): the same to rounding
    await assertLayer(
      ([x]) => gelu(x),
      ([x]) => plainGelu(x),
      args,
      { ...TOLERANCE, label: "gelu" },
    );
    await assertLayer(
      ([x]) => geluTanh(x),
      ([x]) => plainTanh(x),
      args,
      { ...TOLERANCE, label: "geluTanh" },
    );
  });
}

/** erf by its power series, in double precision: good to 1e-11 for |x| < 4.5. */
function erf(x: number): number {
  let term = x;
  let sum = x;
  for (let n = 1; n < 200; n++) {
    term *= -(x * x) / n;
    sum += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}

/** Values and slopes of f at the points, the slope by a central difference in double precision. */
async function against(operation: Operation, f: (x: number) => number, label: string): Promise<void> {
  const data = Float32Array.from({ length: 121 }, (_, i) => (i - 60) / 10);
  const values = [...data].map(f);
  const slopes = [...data].map((x) => (f(x + 1e-4) - f(x - 1e-4)) / 2e-4);
  for (const engine of [compiled, eager]) {
    const args = [{ shape: [121], data }];
    const actual = await evaluate(engine, operation, args);
    const dy = (await evaluate(engine, ([x]) => x, args)).grads[0]!; // what evaluate weighs the results with
    const expected = slopes.map((slope, i) => slope * dy[i]!);
    assertClose(actual.values, values, { ...TOLERANCE, label });
    assertClose(actual.grads[0]!, expected, { ...TOLERANCE, label: `${label}: slope` });
  }
}

test("gelu: values and slopes as in double precision", async () => {
  assert.ok(Math.abs(erf(1) - 0.8427007929497149) < 1e-15 && Math.abs(erf(3) - 0.9999779095030014) < 1e-11);
  await against(
    ([x]) => gelu(x),
    (x) => (x * (1 + erf(x / Math.SQRT2))) / 2,
    "gelu",
  );
});

test("geluTanh: values and slopes as in double precision", async () => {
  const f = (x: number) => (x / 2) * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
  await against(([x]) => geluTanh(x), f, "geluTanh");
});

test("the two forms differ, by up to 5e-4", async () => {
  const args = [floats("x", [400], -4, 4)];
  const exact = (await evaluate(compiled, ([x]) => gelu(x), args)).values;
  const tanh = (await evaluate(compiled, ([x]) => geluTanh(x), args)).values;
  const most = Math.max(...exact.map((y, i) => Math.abs(y - tanh[i]!)));
  assert.ok(most > 3e-4 && most < 6e-4, `${most}`);
});

test("far from 0: nothing or all, no NaN", async () => {
  const args = [{ shape: [6], data: Float32Array.of(-1e4, -100, -20, 20, 100, 1e4) }];
  for (const operation of [(([x]) => gelu(x)) as Operation, (([x]) => geluTanh(x)) as Operation]) {
    for (const engine of [compiled, eager]) {
      const { values, grads } = await evaluate(engine, operation, args);
      assertClose(values, [0, 0, 0, 20, 100, 1e4], { atol: 1e-6, label: "values" });
      assertClose(grads[0]!.subarray(0, 3), [0, 0, 0], { atol: 1e-6, label: "gradients far below" });
      assert.ok(grads[0]!.every(Number.isFinite));
    }
  }
});
