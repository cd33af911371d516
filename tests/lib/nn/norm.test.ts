// What `norm` may be, against PyTorch's layer_norm and rms_norm. The kernels behind them against plain tfjs:
// layer_norm.test.ts, rms_norm.test.ts.

import assert from "node:assert/strict";
import test from "node:test";

import type { tf } from "../../../lib/common/tf.ts";

import type { NormName } from "../../../lib/nn/choices.ts";
import { Scope } from "../../../lib/nn/module.ts";
import { norms } from "../../../lib/nn/norm.ts";
import type { Parameter } from "../../../lib/nn/parameter.ts";
import { attention, CausalSelfAttention, LayerNorm, MLP } from "../../../model.ts";
import { layerIndex } from "../../fixtures/layers/read.ts";
import { assertLayerFixture } from "./layer_fixture.ts";

const textbook = { LayerNorm, CausalSelfAttention, MLP, attention };

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
