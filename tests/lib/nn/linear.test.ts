// The linear layer against sums written out, and its gradients against tfjs' own.

import test from "node:test";

import { tf } from "../../../lib/common/tf.ts";

import { linear } from "../../../lib/nn/linear.ts";
import { assertClose, assertLayer, compiled, evaluate, floats } from "../../support.ts";

for (const shape of [
  [1, 4],
  [3, 4],
  [2, 3, 4],
  [2, 1, 3, 4],
]) {
  for (const transpose of [false, true]) {
    test(`[${shape}]${transpose ? ", weight transposed" : ""}`, async () => {
      const [C, D] = [4, 5];
      const args = [floats("x", shape), floats("weight", transpose ? [D, C] : [C, D]), floats("bias", [D])];
      const plain = (x: tf.Tensor, weight: tf.Tensor) => {
        const turned = transpose ? tf.transpose(weight) : weight;
        // x [..., C, 1] times weight [C, D], summed over C
        return tf.sum(tf.mul(tf.expandDims(x, -1), turned), -2);
      };
      const tolerance = { atol: 1e-5, rtol: 1e-5 }; // sums of up to 24 products
      const biased = { ...tolerance, label: "with bias" };
      await assertLayer(
        ([x, w, b]) => linear(x, w, b, transpose),
        ([x, w, b]) => tf.add(plain(x, w), b),
        args,
        biased,
      );
      await assertLayer(
        ([x, w]) => linear(x, w, undefined, transpose),
        ([x, w]) => plain(x, w),
        args.slice(0, 2),
        { ...tolerance, label: "without bias" },
      );
    });
  }
}

test("by hand: weights are input by output", async () => {
  const args = [
    { shape: [1, 2], data: Float32Array.of(1, 10) },
    { shape: [2, 3], data: Float32Array.of(1, 2, 3, 4, 5, 6) },
    { shape: [3], data: Float32Array.of(100, 200, 300) },
  ];
  const { values } = await evaluate(compiled, ([x, w, b]) => linear(x, w, b), args);
  assertClose(values, [141, 252, 363], { atol: 0, label: "y" });
});
