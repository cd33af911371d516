// The activations against PyTorch's in double precision; those with kernels of their own against tfjs' own gradients, too.

import assert from "node:assert/strict";
import test from "node:test";

import { tf } from "../../../lib/common/tf.ts";

import { activations, gelu, geluTanh } from "../../../lib/nn/activation.ts";
import { layerFixture } from "../../fixtures/layers/read.ts";
import {
  assertClose,
  assertLayer,
  compiled,
  eager,
  evaluate,
  floats,
  type Operation,
  randomFloats,
} from "../../support.ts";

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

const { tensors } = layerFixture("activations");
for (const [name, activation] of Object.entries(activations)) {
  test(`${name}: values and slopes as PyTorch's in double precision`, async () => {
    const x = tensors.get("x")!;
    const dy = randomFloats("dy", x.shape, -1, 1);
    const slopes = tensors.get(`d_${name}`)!.data.map((slope, i) => slope * dy[i]!);
    for (const engine of [compiled, eager]) {
      const { values, grads } = await evaluate(engine, ([x]) => activation(x), [x], { dy });
      assertClose(values, tensors.get(name)!.data, { ...TOLERANCE, label: name });
      assertClose(grads[0]!, slopes, { ...TOLERANCE, label: `${name}: slope` });
    }
  });
}

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
