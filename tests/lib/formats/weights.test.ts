// lib/formats/weights.ts: a model's weights without the model, and which of them are matrices of linear layers.

import assert from "node:assert/strict";
import test from "node:test";

import { isLinear, missingBiases, parameterShapes } from "../../../lib/formats/weights.ts";
import { smallGPT } from "../../support.ts";

for (const config of [
  {},
  { bias: false },
  { tie_weights: false, n_layer: 3 },
  { bias: false, n_layer: 1, n_embd: 4 },
]) {
  test(`the weights are those of the model: ${JSON.stringify(config)}`, () => {
    const model = smallGPT(config);
    assert.deepEqual(
      [...parameterShapes(model.config)],
      model.parameters.map(({ name, shape }) => [name, shape]),
    );
  });
}

test("the missing biases are those that a model with biases has more", () => {
  const [without, whole] = [false, true].map((bias) => smallGPT({ bias }));
  const names = whole!.parameters.map(({ name }) => name);
  const had = new Set(without!.parameters.map(({ name }) => name));
  assert.deepEqual(
    [...missingBiases(without!.config)].map(([name]) => name),
    names.filter((name) => !had.has(name)),
  );
  assert.deepEqual([...missingBiases(whole!.config)], []);
});

test("a block has four linear layers; embeddings, norms and biases are none", () => {
  const linear = [...parameterShapes(smallGPT({ n_layer: 1, tie_weights: false }).config)].filter(([name]) =>
    isLinear(name),
  );
  assert.deepEqual(
    linear.map(([name]) => name),
    ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"].map((name) => `transformer.h.0.${name}.weight`),
  );
});
