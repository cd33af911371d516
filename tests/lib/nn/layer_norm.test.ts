// Layer norm: the fused kernel and its twin against the formula with tfjs' own gradients.

import test from "node:test";

import { tf } from "../../../lib/common/tf.ts";

import { layerNorm } from "../../../lib/nn/layer_norm.ts";
import { assertClose, assertLayer, compiled, eager, evaluate, floats } from "../../support.ts";

/** Sums of up to 64 numbers, then a division by a deviation around 1, in single precision. */
const TOLERANCE = { atol: 2e-5, rtol: 2e-5 };

function plain(x: tf.Tensor, weight: tf.Tensor, bias?: tf.Tensor, epsilon = 1e-5): tf.Tensor {
  const centred = tf.sub(x, tf.mean(x, -1, true));
  const deviation = tf.sqrt(tf.add(tf.mean(tf.square(centred), -1, true), epsilon));
  const scaled = tf.mul(tf.div(centred, deviation), weight);
  return bias ? tf.add(scaled, bias) : scaled;
}

for (const shape of [[4], [1, 8], [5, 3], [2, 3, 16], [2, 2, 3, 64]]) {
  const C = shape.at(-1)!;
  const args = [floats("x", shape), floats("weight", [C]), floats("bias", [C])];
  test(`[${shape}]`, async () => {
    const biased = { ...TOLERANCE, label: "with bias" };
    await assertLayer(
      ([x, w, b]) => layerNorm(x, w, b),
      ([x, w, b]) => plain(x, w, b),
      args,
      biased,
    );
    const unbiased = { ...TOLERANCE, label: "without bias" };
    await assertLayer(
      ([x, w]) => layerNorm(x, w),
      ([x, w]) => plain(x, w),
      args.slice(0, 2),
      unbiased,
    );
    const epsilon = { ...TOLERANCE, label: "with another epsilon" };
    await assertLayer(
      ([x, w, b]) => layerNorm(x, w, b, 0.3),
      ([x, w, b]) => plain(x, w, b, 0.3),
      args,
      epsilon,
    );
  });
}

test("rows far from 0 keep their precision; a row of equal numbers gives the bias", async () => {
  const C = 8;
  const far = floats("far", [3, C], 999, 1001);
  const weight = { shape: [C], data: new Float32Array(C).fill(1) };
  const bias = floats("bias", [C]);
  const expected: number[] = [];
  for (let row = 0; row < 3; row++) {
    const x = [...far.data.subarray(row * C, (row + 1) * C)];
    const mean = x.reduce((sum, number) => sum + number, 0) / C;
    const variance = x.reduce((sum, number) => sum + (number - mean) ** 2, 0) / C;
    x.forEach((number, i) => {
      expected.push((number - mean) / Math.sqrt(variance + 1e-5) + bias.data[i]!);
    });
  }
  const equal = { shape: [2, C], data: new Float32Array(2 * C).fill(3) };
  for (const engine of [compiled, eager]) {
    const { values } = await evaluate(engine, ([x, w, b]) => layerNorm(x, w, b), [far, weight, bias]);
    // the mean itself is rounded to 6e-5 at 1000
    assertClose(values, expected, { atol: 5e-4, label: "far" });
    const flat = await evaluate(engine, ([x, w, b]) => layerNorm(x, w, b), [equal, weight, bias]);
    assertClose(flat.values, [...bias.data, ...bias.data], { atol: 1e-6, label: "flat" });
  }
});
