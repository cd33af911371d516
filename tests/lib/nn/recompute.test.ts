// Recomputation changes no number: loss and gradients have the bits of the plain backward pass, on both engines.

import assert from "node:assert/strict";
import test from "node:test";

import { tf } from "../../../lib/common/tf.ts";

import type { Engine } from "../../../lib/engine/runtime/program.ts";
import { Parameter } from "../../../lib/nn/parameter.ts";
import { parametersOf, recompute, withRecompute } from "../../../lib/nn/recompute.ts";
import type { GPT, GPTConfig } from "../../../model.ts";
import { assertSameBits, compiled, eager, randomBatch, randomVariable, shaken } from "../../support.ts";

const ENGINES = { compiled, eager };

/** The model's loss with its gradients, as train.ts makes it with grad_checkpoint as told. */
function lossProgram(engine: Engine, model: GPT, B: number, wish: boolean) {
  const tokens = { shape: [B, model.config.block_size], dtype: "int32" } as const;
  return engine.program(({ x, y }, mask) => withRecompute(wish, () => model.loss(x, y, mask)), {
    variables: model.parameters,
    inputs: { x: tokens, y: tokens },
    ...{ gradients: true, accumulate: true },
  });
}

const CONFIGS: Partial<GPTConfig>[] = [
  { n_layer: 3 },
  { n_layer: 3, bias: false, dropout: 0.3 },
  { dropout: 0.2, ffn: "gelu_tanh", vocab_size: 600 },
  { n_layer: 1, n_head: 1, block_size: 1 },
  { pos: "relative", dropout: 0.1 }, // a table that all blocks share
  { pos: "rotary", n_kv_head: 1, qk_norm: true, norm: "rmsnorm", norm_position: "sandwich" },
  { n_kv_head: 1, parallel_block: true }, // its blocks hold the position embeddings and don't read them
  { ffn: "moe", n_expert: 3, expert_capacity_factor: 0.8, router_aux_coef: 0.1 }, // drops the same choices again
  { block_size: 520, n_layer: 1, n_head: 1, dropout: 0.1 }, // where attention makes its weights again by itself
  { attention: "recompute", attn_chunk: 4, window: 3, dropout: 0.2, stochastic_depth: 0.4 }, // so it does here
];
for (const [kind, engine] of Object.entries(ENGINES)) {
  for (const config of CONFIGS) {
    test(`${kind}: the same loss and gradients, to the bit: ${JSON.stringify(config)}`, async () => {
      const model = shaken(config);
      const batch = randomBatch(model, 2);
      const results: { loss: Float32Array; grads: Float32Array[] }[] = [];
      for (const wish of [false, true]) {
        for (const { grad } of model.parameters) grad?.fill(0);
        const program = await lossProgram(engine, model, 2, wish);
        await program.run(batch, { dropout: [1] });
        const loss = (await program.run(batch, { dropout: [2] })).slice(); // added to the first, as micro-batches are
        results.push({ loss, grads: model.parameters.map(({ grad }) => grad!.slice()) });
        await program.dispose();
      }
      const [plain, again] = results as [(typeof results)[0], (typeof results)[0]];
      assertSameBits(again.loss, plain.loss, "loss");
      model.parameters.forEach(({ name }, i) => {
        assertSameBits(again.grads[i]!, plain.grads[i]!, name);
        assert.ok(model.config.block_size === 1 || plain.grads[i]!.some((g) => g !== 0), `${name} has a gradient`);
      });
    });
  }
}

/** y = (x a + b) * scale, a layer inside a layer and one weight used twice; `scale` comes from outside. */
class Toy {
  readonly a = new Parameter("a", [3], { constant: 2 });
  readonly inner = { list: [new Parameter("b", [3], { constant: -1 }), this.a], config: { n: 3 } };
  forward([x, scale]: tf.Tensor[]): tf.Tensor {
    return tf.mul(tf.add(tf.mul(x!, this.a.value), this.inner.list[0]!.value), scale!);
  }
}

for (const [kind, engine] of Object.entries(ENGINES)) {
  test(`${kind}: every input gets its gradient, and one that isn't used gets none`, async () => {
    const toy = new Toy();
    const outside = ["x", "scale", "idle"].map((name) => randomVariable(name, [3]));
    const variables = [...outside, ...parametersOf(toy)];
    const grads: Float32Array[][] = [];
    for (const wish of [false, true]) {
      const body = () => {
        const [x, scale, idle] = outside.map(({ value }) => tf.square(value)); // these are gone when gradients are computed
        const y = recompute(toy, [x!, scale!, idle!], undefined, (inputs) => toy.forward(inputs));
        return tf.sum(tf.mul(tf.add(tf.square(y), idle!), x!)) as tf.Tensor;
      };
      const options = { variables, inputs: {}, gradients: true };
      const program = await engine.program(() => withRecompute(wish, body), options);
      await program.run({});
      grads.push(variables.map(({ grad }) => grad!.slice()));
      await program.dispose();
    }
    // the idle one's gradient has another addend, 0
    variables.forEach(({ name }, i) => {
      assert.deepEqual([...grads[1]![i]!].map(String), [...grads[0]![i]!].map(String), name);
      assert.ok(
        grads[0]![i]!.every((g) => g !== 0),
        name,
      );
    });
  });
}

test("a layer's weights are all found, each once, and no other layer's", () => {
  const model = shaken({ n_layer: 2 });
  for (const [i, block] of model.transformer.blocks.entries()) {
    const expected = model.parameters.filter(({ name }) => name.startsWith(`transformer.h.${i}.`));
    assert.equal(expected.length, 12);
    assert.deepEqual(new Set(parametersOf(block)), new Set(expected));
    assert.equal(parametersOf(block).length, 12);
  }
  assert.deepEqual(
    parametersOf(new Toy()).map(({ name }) => name),
    ["a", "b"],
  );
});

test("a weight that is not found is an error, and not a gradient that is lost", async () => {
  const weight = new Parameter("secret", [3], { constant: 2 });
  class Hidden {
    readonly #weight = weight;
    forward = (x: tf.Tensor) => tf.mul(x, this.#weight.value);
  }
  const layer = new Hidden();
  const x = randomVariable("x", [3]);
  const body = () =>
    withRecompute(true, () => {
      const y = recompute(layer, [x.value], undefined, ([x]) => layer.forward(x!));
      return tf.sum(tf.add(y, weight.value)) as tf.Tensor; // read elsewhere too: it would have half of its gradient
    });
  await assert.rejects(
    async () => compiled.program(body, { variables: [x, weight], inputs: {}, gradients: true }),
    /internal: secret is in no public field/,
  );
});

test("outside of withRecompute, and where it is not wished for, it is a plain call", () => {
  const x = tf.tensor1d([1, 2]);
  const never = () => assert.fail("a mask was drawn");
  const mask = { keep: never, integers: never };
  const forward = ([given]: tf.Tensor[], seen: unknown) => {
    assert.equal(seen, mask);
    return given!;
  };
  const call = () => recompute({}, [x], mask, forward);
  assert.equal(call(), x);
  assert.equal(withRecompute(false, call), x);
  assert.throws(() => withRecompute(true, () => assert.fail("inside")), /inside/);
  assert.equal(call(), x); // an error ends it too
  x.dispose();
});
