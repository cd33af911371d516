// A decoder's block that looks at a source, against PyTorch's; and what of a source counts.

import assert from "node:assert/strict";
import { test } from "node:test";

import { tf } from "../../../lib/common/tf.ts";
import type { Engine } from "../../../lib/engine/runtime/program.ts";
import { Scope } from "../../../lib/nn/module.ts";
import { Parameter } from "../../../lib/nn/parameter.ts";
import { withRecompute } from "../../../lib/nn/recompute.ts";
import { layersOf } from "../../../lib/nn/variant.ts";
import { createObjective } from "../../../lib/training/objective.ts";
import { type FullConfig, LAYER_CHOICES, textbook } from "../../../model.ts";
import { layerFixture, layerIndex, takeWeights } from "../../fixtures/layers/read.ts";
import { assertClose, compiled, eager, lossProgram, randomBatch, randomInts, shaken } from "../../support.ts";

for (const name of ["decoder_layer_pre", "decoder_layer_post"]) {
  test(`${name}: value and gradients of ${layerIndex[name]!.reference}`, async () => {
    const fixture = layerFixture(name);
    const { tensors, config: given } = fixture;
    const sizes = { n_layer: 1, block_size: 13, vocab_size: 2, dropout: 0, pos: "none" };
    const config = { ...LAYER_CHOICES, ...sizes, ...given } as unknown as FullConfig;
    const weights: Parameter[] = [];
    const block = layersOf("crossing", textbook).block(new Scope(weights), config, 0, {});
    takeWeights(weights, fixture);
    const [x, memory] = ["x", "memory"].map((name) => {
      const { shape, data } = tensors.get(name)!;
      const variable = new Parameter(name, [...shape], { constant: 0 });
      variable.data.set(data);
      return variable;
    }) as [Parameter, Parameter];
    const [B, S] = memory.shape as [number, number];
    const out = () => block.forward(x.value, { encoded: { x: memory.value, keyPaddingMask: tf.zeros([B, S]) } });
    const variables = [...weights, x, memory];
    for (const engine of [compiled, eager]) {
      const forward = await engine.program(out, { variables, inputs: {} });
      // what the fixture is off by in single precision itself: sums of some hundred products
      assertClose(await forward.run({}), tensors.get("out")!.data, { atol: 1e-5, label: "out" });
      await forward.dispose();
      const d = tensors.get("d_out")!;
      const weighed = () => tf.sum(tf.mul(out(), tf.tensor(d.data, [...d.shape])));
      const backward = await engine.program(weighed, { variables, inputs: {}, gradients: true });
      await backward.run({});
      for (const { name, grad } of variables) {
        const expected = tensors.get(name === "x" || name === "memory" ? `d_${name}` : `grads/${name}`)!;
        assertClose(grad!, expected.data, { atol: 1e-4, rtol: 1e-4, label: name });
      }
      await backward.dispose();
    }
  });
}

const MODEL = { architecture: "encoder_decoder", block_size: 9, dropout: 0.2, n_kv_head: 1, pos: "rotary" } as const;

test("what stands behind a source's end changes no bit of the loss or a gradient", async () => {
  const model = shaken(MODEL);
  const program = await lossProgram(compiled, model, 3);
  const run = async (filler: number, length: number) => {
    const batch = randomBatch(model, 3);
    batch.source_length.fill(length);
    for (let b = 0; b < 3; b++) batch.source.fill(filler, 9 * b + 4, 9 * (b + 1));
    const loss = (await program.run(batch, { dropout: [1] }))[0]!;
    // the filler's own embedding has no gradient from there, either
    return [loss, ...model.parameters.flatMap(({ grad }) => [...grad!])];
  };
  const four = await run(1, 4);
  assert.deepEqual(await run(2, 4), four);
  assert.notDeepEqual(await run(2, 5), four);
  await program.dispose();
});

test("targets of some positions: those of -1 don't count, and taking the others alone is the same", async () => {
  const model = shaken({ ...MODEL, architecture: "encoder" });
  const { block_size: T, vocab_size: V } = model.config;
  const [B, M] = [2, 4];
  const x = randomInts("x", [B, T], 0, V);
  const masked_positions = Int32Array.of(0, 3, 4, 8, 7, 1, 2, 5); // of each sequence, in any order
  const y = randomInts("y", [B, M], 0, V);
  const places = [...masked_positions].map((t, i) => Math.floor(i / M) * T + t);
  const all = new Int32Array(B * T).fill(-1);
  for (const [i, place] of places.entries()) all[place] = y[i]!;
  const shapes = { x: [B, T], y: [B, M], masked_positions: [B, M], all: [B, T] };
  const inputs = Object.fromEntries(
    Object.entries(shapes).map(([name, shape]) => [name, { shape, dtype: "int32" as const }]),
  ) as Record<keyof typeof shapes, { shape: number[]; dtype: "int32" }>;
  const spec = { variables: model.parameters, inputs, gradients: true };
  type Loss = (inputs: Record<keyof typeof shapes, tf.Tensor>) => tf.Scalar;
  const run = async (engine: Engine, loss: Loss) => {
    const program = await engine.program(loss, spec);
    const value = (await program.run({ x, y, masked_positions, all }))[0]!;
    await program.dispose();
    return [value, ...model.parameters.flatMap(({ grad }) => [...grad!])];
  };
  const plain = await run(eager, ({ x, y }) => {
    const rows = tf.gather(tf.reshape(model.logits(x), [B * T, V]), tf.tensor1d(places, "int32"));
    const labels = tf.oneHot(tf.reshape(y, [B * M]) as tf.Tensor1D, V);
    return tf.neg(tf.mean(tf.sum(tf.mul(tf.logSoftmax(rows), labels), 1)));
  });
  for (const engine of [compiled, eager]) {
    const tolerance = { atol: 2e-6, rtol: 1e-4 }; // gradients up to 1, sums over 18 positions
    const uncounted = await run(engine, ({ x, all }) => model.loss(x, all));
    assertClose(uncounted, plain, { ...tolerance, label: "-1" });
    const taken = await run(engine, ({ x, y, masked_positions }) => model.loss(x, y, undefined, { masked_positions }));
    assertClose(taken, plain, { ...tolerance, label: "masked_positions" });
  }
  all.fill(-1);
  const none = await run(compiled, ({ x, all }) => model.loss(x, all));
  assert.ok(none.every((number) => number === 0));
});

test("with checkpoints, which carry the source from layer to layer: the same bits", async () => {
  const results: number[][] = [];
  for (const wish of [false, true]) {
    const model = shaken({ ...MODEL, n_layer: 3 });
    const { block_size: T, vocab_size } = model.config;
    const { inputs } = createObjective("encoder_decoder", { B: 2, T, vocab_size, mask_fraction: 1, pairs: undefined });
    const program = await compiled.program(
      ({ x, y, ...source }, mask) => withRecompute(wish, () => model.loss(x, y, mask, source)),
      { variables: model.parameters, inputs, gradients: true },
    );
    const loss = (await program.run(randomBatch(model, 2), { dropout: [3] }))[0]!;
    results.push([loss, ...model.parameters.flatMap(({ grad }) => [...grad!])]);
    await program.dispose();
  }
  assert.deepEqual(results[1], results[0]);
});
