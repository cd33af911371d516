// lib/formats/llama.ts: what is written is read again to the bit, and one line for all that can't be read or written. That the
// numbers are transformers' own is tested in parity_huggingface.test.ts and export_python.test.ts.

import assert from "node:assert/strict";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { inspect } from "node:util";
import type { NamedTensor } from "../../../lib/common/safetensors.ts";
import { writeHuggingFace } from "../../../lib/formats/huggingface.ts";
import { transpose } from "../../../lib/formats/weights.ts";
import { GPT2_META } from "../../../lib/text/meta.ts";
import { randomFloats } from "../../support.ts";
import { userError } from "../text/support.ts";
import {
  assertSameModel,
  copyOf,
  editJson,
  fixture,
  modelOf,
  newFolder,
  openHF,
  placedNames,
  shakenGPT,
  tensorsIn,
  testHuggingFaceFolder,
  writeTensors,
} from "./support.ts";

const LLAMA = {
  pos: "rotary",
  norm: "rmsnorm",
  ffn: "swiglu",
  ...{ bias: false, n_embd: 16, n_head: 4, n_hidden: 12, tie_weights: false, norm_eps: 1e-3, rope_theta: 500 },
} as const;

for (const [kind, changes] of [
  ["LlamaForCausalLM", {}],
  ["LlamaForCausalLM", { n_kv_head: 2, dropout: 0.25, tie_weights: true }],
  ["LlamaForCausalLM", { n_kv_head: 1, bias: true, ffn: "geglu", block_size: 3 }],
  ["MistralForCausalLM", { n_kv_head: 2, window: 5, ffn: "geglu_tanh" }],
  ["Qwen3ForCausalLM", { qk_norm: true, n_kv_head: 2 }],
  ["Qwen3ForCausalLM", { qk_norm: true, window: 3, n_layer: 3 }],
] as const) {
  test(`model -> files -> model, to the bit: ${kind} ${JSON.stringify(changes)}`, async () => {
    const [model, folder] = [shakenGPT({ ...LLAMA, ...changes }), newFolder()];
    await writeHuggingFace(model, undefined, folder);
    assert.deepEqual(JSON.parse(readFileSync(join(folder, "config.json"), "utf8")).architectures, [kind]);
    assertSameModel(modelOf(openHF(folder)), model);
  });
}

const FIXTURES = ["llama", "llama_tied_bf16", "mistral_f16", "qwen3_bf16"];
for (const name of FIXTURES) {
  test(`files -> model -> files, to the bit, by transformers' names: ${name}`, async () => {
    const [model, folder] = [modelOf(openHF(fixture(name))), newFolder()];
    await writeHuggingFace(model, undefined, folder);
    assertSameModel(modelOf(openHF(folder)), model);
    const named = (tensors: NamedTensor[]) =>
      Object.fromEntries(tensors.map(({ name, ...rest }) => [name.replace(/^model\./, ""), rest]));
    assert.deepEqual(named(tensorsIn(folder)), named(tensorsIn(fixture(name))));
  });
}

test("each setting is where it belongs", () => {
  const common = { block_size: 12, vocab_size: 37, n_layer: 2, n_head: 4, n_embd: 16, n_hidden: 20, dropout: 0 };
  const llama = { ...common, pos: "rotary", rope_fraction: 1, norm: "rmsnorm", norm_position: "pre", norm_eps: 1e-6 };
  for (const [name, changes] of [
    ["llama", { ffn: "swiglu", tie_weights: false, rope_theta: 500, norm_eps: 1e-2, n_kv_head: 2 }],
    ["llama_tied_bf16", { ffn: "geglu", tie_weights: true, rope_theta: 10_000, bias: true, n_kv_head: 0 }],
    ["mistral_f16", { ffn: "swiglu", tie_weights: true, rope_theta: 10_000, window: 5, n_kv_head: 1 }],
    ["qwen3_bf16", { ffn: "geglu_tanh", tie_weights: false, rope_theta: 1e6, qk_norm: true, n_kv_head: 2 }],
  ] as const) {
    const { modelArgs, tokenizerMeta, tensors } = openHF(fixture(name));
    tensors.close();
    assert.deepEqual(modelArgs, { ...llama, bias: false, window: 0, qk_norm: false, ...changes }, name);
    assert.equal(tokenizerMeta, undefined);
  }
});

test("config.json: older names, keys that may be missing, windows", () => {
  const scaled = (changes: object) => ({ rope_parameters: { rope_type: "default", rope_theta: 500, ...changes } });
  const plain = { layer_types: undefined, use_sliding_window: true, sliding_window: 3 };
  for (const [name, changes, expected] of [
    ["llama", { rope_parameters: undefined }, { rope_theta: 10_000 }],
    ["llama", { rope_parameters: undefined, rope_theta: 7, rope_scaling: { type: "default" } }, { rope_theta: 7 }],
    ["llama", { ...scaled({ partial_rotary_factor: 1 }), rope_theta: 7 }, { rope_theta: 500 }],
    ["llama", { head_dim: undefined, rms_norm_eps: undefined, hidden_act: undefined }, { norm_eps: 1e-6 }],
    ["llama", { hidden_act: "gelu_new", attention_dropout: 0.5 }, { ffn: "geglu_tanh", dropout: 0.5 }],
    ["llama", { sliding_window: 3, use_sliding_window: true }, { window: 0 }], // Llama doesn't know it
    ["mistral_f16", { sliding_window: null }, { window: 0 }],
    ["mistral_f16", { sliding_window: undefined }, { window: 4096 }],
    ["qwen3_bf16", { use_sliding_window: false, sliding_window: 3, layer_types: undefined }, { window: 0 }],
    ["qwen3_bf16", { ...plain, max_window_layers: 0 }, { window: 3 }],
    ["qwen3_bf16", { ...plain, max_window_layers: 2 }, { window: 0 }],
    ["qwen3_bf16", { ...plain, layer_types: ["sliding_attention", "sliding_attention"] }, { window: 3 }],
    ["qwen3_bf16", { ...plain, layer_types: ["full_attention", "full_attention"] }, { window: 0 }],
  ] as [string, Record<string, unknown>, Record<string, unknown>][]) {
    const folder = copyOf(name);
    editJson(folder, "config.json", changes);
    const { modelArgs, tensors } = openHF(folder);
    tensors.close();
    assert.deepEqual({ ...modelArgs, ...expected }, modelArgs, JSON.stringify(changes));
  }
});

test("embeddings and norms are placed where they lie; what is turned or joined has no place", () => {
  const opened = openHF(fixture("llama"));
  const ln = (i: number) => [`transformer.h.${i}.ln_1.weight`, `transformer.h.${i}.ln_2.weight`];
  const expected = ["transformer.wte.weight", ...ln(0), ...ln(1), "transformer.ln_f.weight", "lm_head.weight"];
  assert.deepEqual(placedNames(opened), expected);
  opened.tensors.close();
});

test("the angles of older files are passed over", () => {
  const folder = copyOf("llama");
  const angles = { name: "model.layers.0.self_attn.rotary_emb.inv_freq", shape: [2], data: new Float32Array(2) };
  writeTensors(folder, [...tensorsIn(folder), angles]);
  assertSameModel(modelOf(openHF(folder)), modelOf(openHF(fixture("llama"))));
});

testHuggingFaceFolder({ tied: "mistral_f16", embeddings: "embed_tokens.weight", layers: "num_hidden_layers" });

test("GPT-2's tokens are written as its tokenizer's files", async () => {
  const folder = newFolder();
  const model = shakenGPT({ ...LLAMA, vocab_size: 50_257, n_embd: 4, n_head: 2 });
  await writeHuggingFace(model, GPT2_META, folder);
  const files = ["config.json", "merges.txt", "meta.json", "model.safetensors"];
  assert.deepEqual(readdirSync(folder).sort(), [...files, "tokenizer.json", "tokenizer_config.json", "vocab.json"]);
  rmSync(join(folder, "meta.json"));
  const opened = openHF(folder);
  assert.deepEqual(opened.tokenizerMeta, GPT2_META);
  assertSameModel(modelOf(opened), model);
});

const rope = (changes: object) => ({ rope_parameters: { rope_type: "default", rope_theta: 500, ...changes } });
const NUMBER = "an integer of at least 1";
const settings: [string, Record<string, unknown>, RegExp][] = [
  ["llama", { hidden_size: undefined }, RegExp(`hidden_size must be ${NUMBER}, got nothing`)],
  ["llama", { num_attention_heads: 3 }, /n_embd 16 does not divide by n_head 3/],
  ["llama", { num_key_value_heads: 3 }, /n_head 4 does not divide by n_kv_head 3/],
  ["llama", { num_attention_heads: 16, head_dim: 1, num_key_value_heads: 16 }, /pairs of channels/],
  ["llama", { head_dim: 8 }, /head_dim must be hidden_size \/ num_attention_heads, 4, .*, got 8/],
  ["qwen3_bf16", { head_dim: undefined }, /head_dim must be hidden_size .*, got nothing/],
  ["mistral_f16", { num_key_value_heads: undefined }, /must be given, got nothing/],
  ["llama", rope({ rope_type: "llama3", factor: 8 }), /rope_parameters must be positions as they/],
  ["llama", { rope_scaling: { type: "linear", factor: 2 } }, /rope_scaling must be positions as/],
  ["llama", { rope_parameters: { full_attention: {} } }, /rope_parameters must be positions as/],
  ["llama", rope({ partial_rotary_factor: 0.5 }), /rope_parameters must be positions/],
  ["llama", { partial_rotary_factor: 0.5 }, /partial_rotary_factor must be 1, .*, got 0\.5/],
  ["llama", rope({ rope_theta: 0 }), /rope_parameters must be a number above 0, got \{/],
  ["llama", { hidden_act: "relu" }, /hidden_act must be one of silu, .*, got "relu"/],
  ["llama", { attention_bias: true }, /mlp_bias must be true like attention_bias: .*got false/],
  ["qwen3_bf16", { attention_bias: true }, /attention_bias must be false, .*, got true/],
  ["llama", { vocab_size: 128_256 }, /vocab_size must be an integer from 1 to 65536/],
  [
    "qwen3_bf16",
    { use_sliding_window: true, sliding_window: 4, layer_types: undefined, max_window_layers: 1 },
    /config\.json: a window is for all layers here, or for none/,
  ],
  ["qwen3_bf16", { sliding_window: 4, layer_types: ["full_attention", "sliding_attention"] }, /a window is for all/],
  ["qwen3_bf16", { layer_types: ["linear_attention"] }, /layer_types must be a list of full_attention or/],
  ["llama", { num_hidden_layers: 3 }, /no tensor model\.layers\.2\.input_layernorm\.weight/],
  ["llama", { num_hidden_layers: 1 }, /a tensor "model\.layers\.1\..*", for which .* has no place/],
  ["llama", { intermediate_size: 24 }, /gate_proj\.weight as F32 \[20,16\]; .* asks for \[24,16\]/],
  ["mistral_f16", { tie_word_embeddings: false }, /has no tensor lm_head\.weight/],
  ["llama_tied_bf16", { attention_bias: false, mlp_bias: false }, /bias", for which/],
  ["qwen3_bf16", { model_type: "llama" }, /a tensor ".*[qk]_norm\.weight", for which/],
  ["llama", { model_type: "qwen3" }, /has no tensor .*self_attn\.q_norm\.weight/],
];
for (const [name, changes, message] of settings) {
  test(`one line: ${name} with ${inspect(changes, { breakLength: Infinity })}`, () => {
    const folder = copyOf(name);
    editJson(folder, "config.json", changes);
    assert.throws(() => openHF(folder), userError(message));
  });
}

for (const [changes, what] of [
  [{ rope_fraction: 0.5 }, "rope_fraction 0\\.5"],
  [{ norm: "layernorm" }, "norm layernorm"],
  [{ norm_position: "sandwich" }, "norm_position sandwich"],
  [{ parallel_block: true }, "parallel_block true"],
  [{ attn_softcap: 5 }, "attn_softcap 5"],
  [{ logit_softcap: 5 }, "logit_softcap 5"],
  [{ window: 4, attn_global: 1 }, "attn_global 1"],
  [{ ffn: "silu" }, "ffn silu"],
  [{ bias: true, qk_norm: true }, "bias and qk_norm"],
  [{ bias: true, window: 3 }, "bias and a window"],
] as const) {
  test(`one line: not written with ${JSON.stringify(changes)}`, async () => {
    const message = RegExp(`^hf is for the layers of .*, but ${what}; export it as --format=onnx$`);
    await assert.rejects(
      writeHuggingFace(shakenGPT({ ...LLAMA, ...changes }), undefined, newFolder()),
      userError(message),
    );
  });
}

test("matrices are turned in tiles, columns of a wider one too", () => {
  for (const [R, C] of [
    [1, 1],
    [3, 70],
    [65, 33],
  ] as const) {
    const [wide, at] = [C + 5, 3];
    const from = randomFloats("matrix", [R, wide]);
    const turned = new Float32Array(R * C);
    transpose(from.subarray(at), [R, C], turned, { fromWidth: wide });
    for (let r = 0; r < R; r++) for (let c = 0; c < C; c++) assert.equal(turned[c * R + r], from[r * wide + at + c]);
    const back = new Float32Array(R * wide).fill(9);
    transpose(turned, [C, R], back.subarray(at), { intoWidth: wide });
    const isPart = (i: number) => i % wide >= at && i % wide < at + C;
    assert.deepEqual(
      back,
      from.map((number, i) => (isPart(i) ? number : 9)),
    );
  }
});
