// What `ffn` may be, but for the mixture (moe.test.ts): the gated ones against PyTorch, the others by their formula; how
// many hidden units there are where nobody says.

import assert from "node:assert/strict";
import test from "node:test";

import { tf } from "../../../lib/common/tf.ts";

import { activations } from "../../../lib/nn/activation.ts";
import { ACTIVATIONS, GATED, LAYER_CHOICES, type ModelConfig } from "../../../lib/nn/choices.ts";
import { MLP, newFeedForward } from "../../../lib/nn/feed_forward.ts";
import { type Linear, Scope } from "../../../lib/nn/module.ts";
import type { Parameter } from "../../../lib/nn/parameter.ts";
import { textbook } from "../../../model.ts";
import { layerIndex } from "../../fixtures/layers/read.ts";
import { assertLayer, floats } from "../../support.ts";
import { assertLayerFixture } from "./layer_fixture.ts";

const CONFIG = { ...LAYER_CHOICES, block_size: 1, vocab_size: 1, n_layer: 1, n_head: 1, dropout: 0, bias: false };

/** Makes a linear layer pass on its inputs from number `from` on. */
function passOn({ weight }: Linear, from = 0): void {
  const [C, D] = weight.shape as [number, number];
  for (let i = 0; i < Math.min(C - from, D); i++) weight.data[(from + i) * D + i] = 1;
}

for (const name of GATED) {
  test(`${name}: value and gradients of ${layerIndex[name]!.reference}`, async () => {
    const F = 33; // hidden units; of 2 F channels the gate takes the first half, the other layer the second
    const mlp = new MLP(new Scope([]), name, { ...CONFIG, n_embd: 2 * F, n_hidden: F });
    passOn(mlp.cGate!);
    passOn(mlp.cFc, F);
    passOn(mlp.cProj);
    const layer = ([x, up]: tf.Tensor[]) => tf.slice(mlp.forward(tf.concat([x!, up!], 1)), [0, 0], [-1, F]);
    await assertLayerFixture(name, layer, ["x", "up"]);
  });
}

for (const name of ["silu", "swiglu"] as const) {
  test(`${name} with biases: value and gradients of the formula`, async () => {
    const [C, F] = [4, 6];
    const linear = (x: tf.Tensor, w: tf.Tensor, b: tf.Tensor) =>
      tf.add(tf.matMul(x as tf.Tensor2D, w as tf.Tensor2D), b);
    const layer = ([x, ...weights]: tf.Tensor[]) => {
      const all: Parameter[] = [];
      const config = { ...CONFIG, n_embd: C, n_hidden: F, bias: true, ffn: name };
      const mlp = newFeedForward(new Scope(all), config, textbook);
      for (const [i, parameter] of all.entries()) parameter.value = weights[i]!;
      return mlp.forward(x!);
    };
    const plain = ([x, ...weights]: tf.Tensor[]) => {
      const first = activations.silu(linear(x!, weights[0]!, weights[1]!));
      const hidden = weights.length > 4 ? tf.mul(first, linear(x!, weights[2]!, weights[3]!)) : first;
      return linear(hidden, weights.at(-2)!, weights.at(-1)!);
    };
    const gate = name === "swiglu" ? [floats("gate", [C, F], -1, 1), floats("gate bias", [F])] : [];
    const args = [
      ...[floats("x", [5, C]), ...gate, floats("fc", [C, F], -1, 1), floats("fc bias", [F])],
      ...[floats("proj", [F, C], -1, 1), floats("proj bias", [C])],
    ];
    // sums of six products of numbers of up to some 30
    await assertLayer(layer, plain, args, { atol: 1e-5, rtol: 1e-5, label: name });
  });
}

test("hidden units: n_hidden, else 4 C, or with a gate the next multiple of 32 from 8/3 C on", () => {
  const shapesOf = (config: Pick<ModelConfig, "ffn" | "n_embd" | "n_hidden">) => {
    const all: Parameter[] = [];
    const rest = { ...CONFIG, n_expert: 2, n_expert_active: 1 };
    newFeedForward(new Scope(all), { ...rest, ...config }, textbook);
    return Object.fromEntries(all.map(({ name, shape }) => [name, shape]));
  };
  for (const [n_embd, n_hidden, F, gated] of [
    [12, 5, 5, 5],
    [12, 0, 48, 32],
    [96, 0, 384, 256],
    [97, 0, 388, 288],
  ] as const) {
    const [up, down] = [(F: number) => [n_embd, F], (F: number) => [F, n_embd]];
    for (const ffn of ACTIVATIONS) {
      const shapes = { "c_fc.weight": up(F), "c_proj.weight": down(F) };
      assert.deepEqual(shapesOf({ ffn, n_embd, n_hidden }), shapes, ffn);
    }
    for (const ffn of GATED) {
      const shapes = { "c_gate.weight": up(gated), "c_fc.weight": up(gated), "c_proj.weight": down(gated) };
      assert.deepEqual(shapesOf({ ffn, n_embd, n_hidden }), shapes, ffn);
    }
    const { "experts.c_gate": gate, "experts.c_proj": proj } = shapesOf({ ffn: "moe", n_embd, n_hidden });
    assert.deepEqual(
      [gate, proj],
      [
        [2, ...up(gated)],
        [2, ...down(gated)],
      ],
    );
  }
});
