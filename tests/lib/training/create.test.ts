// lib/training/create.ts, and the programs in examples/ that use it.

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";

import * as tf from "@tensorflow/tfjs";

import { UserError } from "../../../lib/common/errors.ts";
import {
  createAttention,
  createFeedForward,
  createTransformerConfig,
  createTransformerModel,
  randomWeights,
} from "../../../lib/training/create.ts";
import { GPT, GPT2_CHOICES } from "../../../model.ts";
import { assertRefused, flags, oneProcess, succeed, temporaryFolder, tinyDataset } from "../../scripts.ts";

const SHAPE = { n_layer: 2, n_head: 2, n_embd: 16, block_size: 8, vocab_size: 11 };

test("a config is whole, and a mistake in it one line", () => {
  const config = createTransformerConfig({ ...SHAPE, pos: "rotary" });
  assert.deepEqual(config, { ...GPT2_CHOICES, ...SHAPE, dropout: 0, bias: false, ffn: "gelu", pos: "rotary" });
  const refused = (options: object, message: RegExp) =>
    assert.throws(
      () => createTransformerConfig({ ...SHAPE, ...options }),
      (error) => error instanceof UserError && message.test(error.message) && !error.message.includes("\n"),
    );
  refused({ n_head: 3 }, /n_embd 16 does not divide by n_head 3/);
  refused({ pos: "nowhere" }, /pos must be "learned", .* or "none", got "nowhere"/);
  refused({ n_kv_head: 2, n_head: 1 }, /n_head 1 does not divide by n_kv_head 2/);
  refused({ parallel_block: true, norm_position: "post" }, /parallel_block has its norms before both/);
  refused({ window: 0, attn_stride: 3 }, /widen a window/);
});

test("a model's weights are a function of the seed; layers alone are those of the model", async () => {
  const weights = (seed?: number) =>
    createTransformerModel(SHAPE, seed === undefined ? {} : { seed }).parameters.map(({ data }) => data);
  assert.deepEqual(weights(), weights(1337));
  const { parameters } = new GPT(createTransformerConfig(SHAPE));
  await randomWeights(parameters, 1337);
  assert.deepEqual(
    parameters.map(({ data }) => data),
    weights(),
  );
  assert.notDeepEqual(weights(), weights(1));

  const model = createTransformerModel(SHAPE);
  const x = tf.randomNormal([2, 5, 16], 0, 1, "float32", 7);
  const attention = createAttention(SHAPE);
  const feedForward = createFeedForward(SHAPE);
  // the learned positions belong to the model: alone, the layer has the table and doesn't read it
  const own = attention.parameters.filter(({ name }) => !name.startsWith("wpe"));
  const { attn, mlp } = model.blocks[1]!;
  for (const [scope, parameters] of [
    ["attn", own],
    ["mlp", feedForward.parameters],
  ] as const) {
    for (const { name, data } of parameters) {
      data.set(model.parameters.find((other) => other.name === `transformer.h.1.${scope}.${name}`)!.data);
    }
  }
  assert.deepEqual(attention.layer.forward(x, 5).dataSync(), attn.forward(x, 5).dataSync());
  assert.deepEqual(feedForward.layer.forward(x).dataSync(), mlp.forward(x).dataSync());
});

test("examples: basic learns its text, advanced tells of its layers", async () => {
  const basic = await succeed("examples/basic.ts", []);
  assert.match(basic, /^step 149: loss 0\.\d+\n/m);
  assert.match(basic, /the lazy dog/);
  const advanced = await succeed("examples/advanced.ts", []);
  assert.equal(advanced.match(/^attention /gm)!.length, 3);
  assert.match(advanced, /^loss 4\.\d+; the longest gradient/m); // about ln 65
});

test("examples: production writes from a checkpoint, and a mistake is one line", async () => {
  const folder = temporaryFolder();
  const out = join(folder, "out");
  const shape = { n_layer: 1, n_head: 2, n_embd: 16, block_size: 8, batch_size: 2, gradient_accumulation_steps: 1 };
  const steps = { max_iters: 2, eval_interval: 2, eval_iters: 1, threads: 1, warmup_iters: 1 };
  const runHere = oneProcess();
  await succeed("train.ts", flags({ ...shape, ...steps, dataset: tinyDataset(folder), out_dir: out }));
  const lines = (await succeed("examples/production.ts", [out, "an", "be"])).trim().split("\n");
  assert.equal(lines.length, 4);
  for (const line of lines) assert.ok(JSON.parse(line).text.length > 0);
  assertRefused(await runHere("examples/production.ts", []), /give a folder and prompts/);
  assertRefused(await runHere("examples/production.ts", [join(folder, "none"), "a"]), /no checkpoint in/);
});
