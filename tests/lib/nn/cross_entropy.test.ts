// Cross-entropy: the fused kernels and their twins against the formula with tfjs' own gradients.

import assert from "node:assert/strict";
import test from "node:test";

import { tf } from "../../../lib/common/tf.ts";

import { crossEntropy } from "../../../lib/nn/cross_entropy.ts";
import { assertClose, assertLayer, compiled, eager, evaluate, floats, ints } from "../../support.ts";

/** Sums of up to 1000 exponentials in single precision, in two orders. */
const TOLERANCE = { atol: 2e-6, rtol: 1e-5 };

function plain(logits: tf.Tensor, labels: tf.Tensor): tf.Tensor {
  const V = logits.shape[1]!;
  const right = tf.sum(tf.mul(logits, tf.oneHot(labels as tf.Tensor1D, V)), 1);
  return tf.mean(tf.sub(tf.logSumExp(logits, 1), right));
}

for (const [N, V] of [
  [1, 2],
  [5, 3],
  [12, 65],
  [7, 1000],
  [40, 5],
] as const) {
  test(`[${N}, ${V}]`, async () => {
    const args = [floats("logits", [N, V], -4, 4), ints("labels", [N], 0, V)];
    const layer = ([logits, labels]: tf.Tensor[]) => crossEntropy(logits!, labels!);
    await assertLayer(layer, ([logits, labels]) => plain(logits, labels), args, { ...TOLERANCE, label: "loss" });
  });
}

test("equal logits: ln V; one class: 0, without a gradient", async () => {
  for (const engine of [compiled, eager]) {
    const equal = { shape: [3, 50], data: new Float32Array(150).fill(7) };
    const flat = await evaluate(engine, ([x, y]) => crossEntropy(x, y), [equal, ints("labels", [3], 0, 50)]);
    assertClose(flat.values, [Math.log(50)], { atol: 1e-6, label: "ln V" });
    const one = await evaluate(engine, ([x, y]) => crossEntropy(x, y), [floats("x", [4, 1]), ints("y", [4], 0, 1)]);
    assertClose(one.values, [0], { atol: 0, label: "one class" });
    assertClose(one.grads[0]!, [0, 0, 0, 0], { atol: 0, label: "one class: gradient" });
  }
});

test("large logits stay finite: the right class gives 0, the wrong one the difference", async () => {
  const logits = { shape: [2, 3], data: Float32Array.of(1e4, 0, -1e4, 1e4, 0, -1e4) };
  const labels = { shape: [2], data: Int32Array.of(0, 2) };
  for (const engine of [compiled, eager]) {
    const { values, grads } = await evaluate(engine, ([x, y]) => crossEntropy(x, y), [logits, labels]);
    assertClose(values, [1e4], { atol: 0, rtol: 1e-6, label: "loss" }); // the mean of 0 and 2e4
    assert.ok(grads[0]!.every(Number.isFinite));
    const scale = grads[0]![3]!; // dy / N: only the second row is wrong, and wholly so
    assert.notEqual(scale, 0);
    assertClose(grads[0]!, [0, 0, 0, scale, 0, -scale], { atol: 1e-7, label: "gradient" });
  }
});

test("a row's gradient adds up to 0 and is negative for the label alone", async () => {
  const labels = ints("labels", [6], 0, 700);
  const { grads } = await evaluate(compiled, ([x, y]) => tf.mul(crossEntropy(x, y), 2), [
    floats("x", [6, 700]),
    labels,
  ]);
  const sign = Math.sign(grads[0]!.reduce((most, g) => (Math.abs(g) > Math.abs(most) ? g : most), 0)); // -dy's
  for (let row = 0; row < 6; row++) {
    const gradient = grads[0]!.subarray(row * 700, (row + 1) * 700);
    assertClose([gradient.reduce((sum, g) => sum + g, 0)], [0], { atol: 1e-7, label: `row ${row}` });
    gradient.forEach((g, i) => {
      assert.equal(Math.sign(g), i === labels.data[row] ? sign : -sign, `row ${row}, class ${i}`);
    });
  }
});
