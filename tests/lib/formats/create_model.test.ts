// lib/formats/create_model.ts, and the programs in examples/ that use it.

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";

import { UserError } from "../../../lib/common/errors.ts";
import { createModel } from "../../../lib/formats/create_model.ts";
import { randomWeightsInPieces } from "../../../lib/nn/init.ts";
import { GPT, LAYER_CHOICES } from "../../../model.ts";
import { assertRefused, flags, oneProcess, succeed, temporaryFolder, tinyDataset } from "../../scripts.ts";

const SHAPE = { n_layer: 2, n_head: 2, n_embd: 16, block_size: 8, vocab_size: 11 };

test("a config is whole, and a mistake in it one line", () => {
  const { config } = createModel({ ...SHAPE, pos: "rotary" });
  assert.deepEqual(config, { ...LAYER_CHOICES, ...SHAPE, dropout: 0, bias: false, ffn: "gelu", pos: "rotary" });
  const refused = (options: object, message: RegExp) =>
    assert.throws(
      () => createModel({ ...SHAPE, ...options }),
      (error) => error instanceof UserError && message.test(error.message) && !error.message.includes("\n"),
    );
  refused({ n_head: 3 }, /n_embd 16 does not divide by n_head 3/);
  refused({ pos: "nowhere" }, /pos must be "learned", .* or "none", got "nowhere"/);
  refused({ n_kv_head: 2, n_head: 1 }, /n_head 1 does not divide by n_kv_head 2/);
  refused({ parallel_block: true, norm_position: "post" }, /parallel_block has its norms before both/);
  refused({ window: 0, attn_stride: 3 }, /widen a window/);
});

test("a model's weights are a function of the seed, in one piece or in many", async () => {
  const weights = (seed?: number) => createModel(SHAPE, seed).parameters.map(({ data }) => data);
  assert.deepEqual(weights(), weights(1337));
  const { parameters } = new GPT(createModel(SHAPE).config);
  await randomWeightsInPieces(parameters, 1337);
  assert.deepEqual(
    parameters.map(({ data }) => data),
    weights(),
  );
  assert.notDeepEqual(weights(), weights(1));
});

test("examples: basic learns its text, advanced tells of its layers", async () => {
  const basic = await succeed("examples/basic.ts", []);
  assert.match(basic, /^step 149: loss 0\.\d+\n/m);
  assert.match(basic, /the lazy dog/);
  const advanced = await succeed("examples/advanced.ts", []);
  assert.equal(advanced.match(/^attention /gm)!.length, 3);
  assert.match(advanced, /^loss 4\.\d+; the largest gradient norm/m); // about ln 65
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
