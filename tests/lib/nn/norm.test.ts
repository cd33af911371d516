// What `norm` may be, against PyTorch's layer_norm and rms_norm, and the kernels behind them against plain tfjs.

import assert from "node:assert/strict";
import test from "node:test";

import { tf } from "../../../lib/common/tf.ts";

import type { NormName } from "../../../lib/nn/choices.ts";
import { layerNorm } from "../../../lib/nn/layer_norm.ts";
import { Scope } from "../../../lib/nn/module.ts";
import { norms } from "../../../lib/nn/norm.ts";
import type { Parameter } from "../../../lib/nn/parameter.ts";
import { rmsNorm } from "../../../lib/nn/rms_norm.ts";
import { textbook } from "../../../model.ts";
import { layerIndex } from "../../fixtures/layers/read.ts";
import { assertClose, assertLayer, compiled, eager, evaluate, floats } from "../../support.ts";
import { assertLayerFixture } from "./layer_fixture.ts";

for (const name of ["layernorm", "layernorm_no_bias", "rmsnorm", "rmsnorm_eps_1e-6"]) {
  test(`${name}: value and gradients of ${layerIndex[name]!.reference}`, async () => {
    const config = layerIndex[name]!.config as { norm: NormName; norm_eps: number; bias?: boolean };
    const { norm, norm_eps, bias = false } = config;
    const layer = ([x, weight, shift]: tf.Tensor[]) => {
      const made = new (norms[norm]!(textbook))(new Scope([]), 12, bias, norm_eps);
      made.weight.value = weight!;
      if (made.bias) made.bias.value = shift!;
      return made.forward(x!);
    };
    await assertLayerFixture(name, layer, ["x", "weights/weight", ...(bias ? ["weights/bias"] : [])]);
  });
}

test("the weights of each: they start at 1, biases at 0; rmsnorm has no bias", () => {
  const weightsOf = (norm: NormName, bias: boolean) => {
    const all: Parameter[] = [];
    new (norms[norm]!(textbook))(new Scope(all).at("ln"), 3, bias, 1e-5);
    return Object.fromEntries(all.map(({ name, data }) => [name, [...data]]));
  };
  assert.deepEqual(weightsOf("layernorm", true), { "ln.weight": [1, 1, 1], "ln.bias": [0, 0, 0] });
  for (const [norm, bias] of [
    ["layernorm", false],
    ["rmsnorm", true],
    ["rmsnorm", false],
  ] as const) {
    assert.deepEqual(weightsOf(norm, bias), { "ln.weight": [1, 1, 1] });
  }
});

// ---- the kernels -------------------------------------------------------------------------------------------------

type Norm = (x: tf.Tensor, weight: tf.Tensor, bias?: tf.Tensor, epsilon?: number) => tf.Tensor;

/** Each with its formula in plain tfjs, which has tfjs' own gradients. */
const KERNELS: Record<string, [kernel: Norm, plain: Norm, inputs: number]> = {
  "layer norm": [layerNorm, plainLayerNorm, 3],
  "layer norm without bias": [(x, w, _, e) => layerNorm(x, w, undefined, e), plainLayerNorm, 2],
  "rms norm": [
    (x, w, _, epsilon = 1e-5) => rmsNorm(x, w, epsilon),
    (x, w, _, epsilon = 1e-5) => tf.mul(tf.div(x, tf.sqrt(tf.add(tf.mean(tf.square(x), -1, true), epsilon))), w),
    2,
  ],
};

function plainLayerNorm(x: tf.Tensor, weight: tf.Tensor, bias?: tf.Tensor, epsilon = 1e-5): tf.Tensor {
  const centred = tf.sub(x, tf.mean(x, -1, true));
  const deviation = tf.sqrt(tf.add(tf.mean(tf.square(centred), -1, true), epsilon));
  const scaled = tf.mul(tf.div(centred, deviation), weight);
  return bias ? tf.add(scaled, bias) : scaled;
}

for (const [name, [kernel, plain, inputs]] of Object.entries(KERNELS)) {
  test(`${name}: value and gradients of the formula`, async () => {
    for (const [shape, epsilon] of [
      [[4], undefined],
      [[1, 8], 0.3],
      [[2, 2, 3, 64], undefined],
    ] as const) {
      const C = shape.at(-1)!;
      const args = [floats("x", [...shape]), floats("weight", [C]), floats("bias", [C])].slice(0, inputs);
      const apply = (norm: Norm) => (tensors: tf.Tensor[]) => norm(tensors[0]!, tensors[1]!, tensors[2], epsilon);
      // sums of up to 64 numbers, then a division by a deviation around 1, in single precision
      await assertLayer(apply(kernel), apply(plain), args, { atol: 2e-5, rtol: 2e-5, label: `[${shape}]` });
    }
  });
}

test("layer norm: rows far from 0 keep their precision; a row of equal numbers gives the bias", async () => {
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
