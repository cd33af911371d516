// The model with choices other than GPT-2's, against PyTorch and transformers (tests/fixtures/layers) and against itself:
// compiled and eager, drawn from a cache and without one.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createCachedDecoder } from "../lib/decoding/cached_decoder.ts";
import { createPlainDecoder } from "../lib/decoding/plain_decoder.ts";
import { findConflict } from "../lib/settings/rules.ts";
import type { InputName } from "../lib/training/objective.ts";
import { GPT, type GPTConfig, LAYER_CHOICES } from "../model.ts";
import { layerFixture, layerIndex, takeWeights } from "./fixtures/layers/read.ts";
import { follow } from "./lib/decoding/support.ts";
import { assertClose, assertEnginesAgree, compiled, eager, shaken } from "./support.ts";

/** Our keys of a fixture's settings; undefined where there is one that we don't have. */
function configOf(name: string): GPTConfig | undefined {
  const { stride, ...config } = layerIndex[name]!.config;
  if (config.ffn === "moe") return undefined;
  return { dropout: 0, ...config, ...(stride !== undefined && { attn_stride: stride }) } as unknown as GPTConfig;
}

/** A fixture's integers as a batch; targets that aren't masked count as -1. */
function batchOf(integers: ReturnType<typeof layerFixture>["integers"]) {
  const masked = integers.get("masked")?.data;
  const y = integers.get("targets")!;
  const given = { x: integers.get("x")!, y: { ...y, data: y.data.map((id, i) => (masked?.[i] === 0 ? -1 : id)) } };
  const source = { source: integers.get("source"), source_length: integers.get("source_length") };
  const all = Object.entries({ ...given, ...source }).filter(([, value]) => value !== undefined);
  const of = <T>(pick: (value: { shape: readonly number[]; data: Int32Array }) => T) =>
    Object.fromEntries(all.map(([name, value]) => [name, pick(value!)])) as Record<InputName, T>;
  return { inputs: of(({ shape }) => ({ shape: [...shape], dtype: "int32" as const })), data: of(({ data }) => data) };
}

const fixtures = Object.keys(layerIndex).filter((name) => layerIndex[name]!.kind === "model" && configOf(name));

for (const name of fixtures) {
  test(`${name}: logits, loss and gradients of ${layerIndex[name]!.reference}`, async () => {
    const model = new GPT(configOf(name)!);
    const fixture = layerFixture(name);
    const { tensors, integers } = fixture;
    takeWeights(model.parameters, fixture);
    const { inputs, data } = batchOf(integers);
    for (const engine of [compiled, eager]) {
      const logits = await engine.program(({ x, ...source }) => model.logits(x, source), {
        variables: model.parameters,
        inputs,
      });
      assertClose(await logits.run(data), tensors.get("logits")!.data, { atol: 1e-4, label: "logits" });
      await logits.dispose();
      const loss = await engine.program(({ x, y, ...source }) => model.loss(x, y, undefined, source), {
        variables: model.parameters,
        inputs,
        gradients: true,
      });
      const value = await loss.run(data);
      assertClose(value, tensors.get("loss")!.data, { atol: 1e-5, label: "loss" });
      for (const { name, grad } of model.parameters) {
        assertClose(grad!, tensors.get(`grads/${name}`)!.data, { atol: 1e-4, rtol: 1e-3, label: name });
      }
      await loss.dispose();
    }
  });
}

const CHOICES: Partial<GPTConfig>[] = [
  { pos: "rotary", ffn: "swiglu", norm: "rmsnorm", n_kv_head: 1, bias: false },
  { pos: "rotary", rope_fraction: 0.5, n_embd: 32, parallel_block: true, dropout: 0.2 },
  { pos: "alibi", window: 3, attn_softcap: 5 },
  { pos: "relative", qk_norm: true, norm_position: "sandwich", dropout: 0.1 },
  { pos: "sinusoidal", norm_position: "post", ffn: "relu2", window: 4, attn_global: 1, attn_stride: 3 },
  { pos: "none", n_embd: 16, n_kv_head: 1, window: 5, logit_softcap: 4, ffn: "geglu_tanh", tie_weights: false },
  { ffn: "moe", n_expert: 4, n_hidden: 12, n_shared_hidden: 8, dropout: 0.1 },
  { ffn: "moe", n_expert: 4, n_hidden: 12, expert_capacity_factor: 0.8, pos: "rotary", dropout: 0.1 },
  { architecture: "encoder", pos: "alibi", n_kv_head: 1, window: 3, attn_global: 2, dropout: 0.1 },
  { architecture: "encoder_decoder", dropout: 0.1, norm_position: "sandwich" },
  {
    architecture: "encoder_decoder",
    pos: "rotary",
    n_kv_head: 1,
    ffn: "moe",
    n_expert: 4,
    norm: "rmsnorm",
    bias: false,
  },
];
for (const choice of CHOICES) {
  const config = { block_size: 14, ...choice };
  test(`compiled and eager, cached and not: ${JSON.stringify(choice)}`, async () => {
    const model = shaken(config);
    // gradients of up to 1, summed over 42 positions and two layers in single precision
    await assertEnginesAgree(model, 3, { atol: 2e-5, rtol: 1e-4 });
    if (choice.architecture === "encoder") return; // it writes no text
    const decoder = await createCachedDecoder(compiled, model);
    await follow(decoder, createPlainDecoder(model), { prompt: [1, 2, 3], copies: 2, steps: 15 });
    await decoder.dispose();
  });
}

test("attention in one piece has no blocks", () => {
  const dense = { ...LAYER_CHOICES, attention: "dense" };
  assert.equal(findConflict(dense), undefined);
  const { problem, keys } = findConflict({ ...dense, attn_chunk: 64 })!;
  assert.equal(problem, 'attention "dense" has no chunks, so no attn_chunk 64; leave one of them out');
  assert.deepEqual(keys, ["attention", "attn_chunk"]);
});
