// lib/nn/rms_norm.ts against the formula in plain tfjs.

import { test } from "node:test";

import { tf } from "../../../lib/common/tf.ts";

import { rmsNorm } from "../../../lib/nn/rms_norm.ts";
import { assertLayer, floats } from "../../support.ts";

for (const shape of [
  [1, 1],
  [3, 7],
  [2, 5, 16],
]) {
  test(`[${shape}]: value and gradients`, async () => {
    const args = [floats("x", shape), floats("weight", [shape.at(-1)!])];
    const epsilon = 1e-5;
    // means of up to 16 squares in single precision
    const tolerance = { atol: 5e-6, rtol: 1e-5, label: `[${shape}]` };
    await assertLayer(
      ([x, w]) => rmsNorm(x!, w!, epsilon),
      ([x, w]) => tf.mul(tf.div(x!, tf.sqrt(tf.add(tf.mean(tf.square(x!), -1, true), epsilon))), w!),
      args,
      tolerance,
    );
  });
}
