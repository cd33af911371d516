// Against transformers and nanoGPT: what a small model of theirs computes, read from the files that they wrote, as
// recorded in tests/fixtures/formats/ by make_hf_fixtures.py and make_llama_fixtures.py, which say what the files hold.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import type { Engine } from "../lib/engine/runtime/program.ts";
import { openModel } from "../lib/formats/pretrained.ts";
import { GPT } from "../model.ts";
import { fixture } from "./lib/formats/support.ts";
import { assertClose, compiled, eager } from "./support.ts";

interface Expected {
  ids: number[]; // [T]
  logits: number[][]; // [T, V]
  loss: number; // of ids[1:]
  prompt: number[];
  greedy: number[]; // 40 tokens
}

// Logits are some 10 large and recorded to 7 digits: 1e-4 is a hundred roundings of float32. The other form of GELU would
// move them by 1e-3 at least, and each choice is 1e-3 clear of the next: make_hf_fixtures.py sees to both.
const LOGITS = { atol: 1e-4 };
const LOSS = { atol: 1e-5 };

async function load(name: string): Promise<{ model: GPT; expected: Expected }> {
  const opened = await openModel(fixture(name), "nowhere", { log: assert.fail });
  const model = new GPT(opened.modelArgs);
  await opened.read(model);
  opened.close();
  return { model, expected: JSON.parse(readFileSync(join(fixture(name), "expected.json"), "utf8")) };
}

/** Always the likeliest token, of the last block_size. The context is padded behind, where the model doesn't look. */
async function greedy(engine: Engine, model: GPT, prompt: readonly number[], count: number): Promise<number[]> {
  const { block_size: T } = model.config;
  const program = await engine.program(({ ids, at }) => model.nextLogits(ids, at), {
    variables: model.parameters,
    inputs: { ids: { shape: [1, T], dtype: "int32" }, at: { shape: [1], dtype: "int32" } },
  });
  const tokens = [...prompt];
  while (tokens.length < prompt.length + count) {
    const context = tokens.slice(-T);
    const ids = new Int32Array(T);
    ids.set(context);
    const logits = await program.run({ ids, at: Int32Array.of(context.length - 1) });
    tokens.push(logits.indexOf(Math.max(...logits)));
  }
  await program.dispose();
  return tokens.slice(prompt.length);
}

const GPT2 = ["hf_gelu_new", "hf_gelu_f16", "hf_sharded_bf16", "hf_no_prefix", "hf_untied", "nanogpt"];
const LLAMA = ["llama", "llama_tied_bf16", "mistral_f16", "qwen3_bf16"];
for (const name of [...GPT2, ...LLAMA]) {
  for (const [kind, engine] of Object.entries({ compiled, eager })) {
    test(`${name}, ${kind}: logits, loss, and 40 tokens, most of them past the block's end`, async () => {
      const { model, expected } = await load(name);
      const T = expected.ids.length;
      assert.equal(model.config.block_size, T);
      const spec = { variables: model.parameters, inputs: { x: { shape: [1, T], dtype: "int32" } } } as const;
      const forward = await engine.program(({ x }) => model.logits(x), spec);
      assertClose(await forward.run({ x: Int32Array.from(expected.ids) }), expected.logits.flat(), {
        ...LOGITS,
        label: "logits",
      });
      await forward.dispose();

      const tokens = { shape: [1, T - 1], dtype: "int32" } as const;
      const loss = await engine.program(({ x, y }) => model.loss(x, y), {
        variables: model.parameters,
        inputs: { x: tokens, y: tokens },
      });
      const batch = { x: Int32Array.from(expected.ids.slice(0, -1)), y: Int32Array.from(expected.ids.slice(1)) };
      assertClose(await loss.run(batch), [expected.loss], { ...LOSS, label: "loss" });
      await loss.dispose();

      assert.deepEqual(await greedy(engine, model, expected.prompt, expected.greedy.length), expected.greedy);
    });
  }
}
