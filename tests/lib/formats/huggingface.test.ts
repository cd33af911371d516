// lib/formats/huggingface.ts: what is written is read again to the bit, and one line for all that can't be read. That the
// numbers are transformers' own is tested in parity_huggingface.test.ts and export_python.test.ts.

import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { inspect } from "node:util";
import { type NamedTensor, SafetensorsFile } from "../../../lib/common/safetensors.ts";
import { writeHuggingFace } from "../../../lib/formats/huggingface.ts";
import { GPT2_META } from "../../../lib/text/meta.ts";
import { characterMeta, userError } from "../text/support.ts";
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

const META = characterMeta("abcdefghijk");

for (const changes of [
  {},
  { bias: false },
  { tie_weights: false, ffn: "gelu_tanh", dropout: 0.25 },
  { bias: false, ffn: "relu", n_head: 4 },
  { ffn: "silu", n_layer: 1 },
  { ffn: "relu2" },
] as const) {
  test(`model -> files -> model, to the bit: ${JSON.stringify(changes)}`, async () => {
    const [model, folder] = [shakenGPT(changes), newFolder()];
    await writeHuggingFace(model, META, folder);
    assert.deepEqual(readdirSync(folder).sort(), ["config.json", "meta.json", "model.safetensors"]);
    const opened = openHF(folder);
    assert.deepEqual(opened.tokenizerMeta, META);
    assertSameModel(modelOf(opened), model);
  });
}

for (const name of ["hf_gelu_new", "hf_gelu_f16", "hf_sharded_bf16", "hf_no_prefix", "hf_untied"]) {
  test(`files -> model -> files -> model, to the bit: ${name}`, async () => {
    const [model, folder] = [modelOf(openHF(fixture(name))), newFolder()];
    await writeHuggingFace(model, undefined, folder);
    assertSameModel(modelOf(openHF(folder)), model);
  });
}

test("float32 is written with the names and shapes that transformers writes, and nothing else", async () => {
  const folder = newFolder();
  await writeHuggingFace(modelOf(openHF(fixture("hf_gelu_new"))), undefined, folder);
  const [ours, theirs] = [folder, fixture("hf_gelu_new")].map((at) => {
    const file = new SafetensorsFile(join(at, "model.safetensors"));
    file.close();
    return new Map([...file.entries].map(([name, { dtype, shape }]) => [name, { dtype, shape }]));
  });
  assert.deepEqual(ours, theirs);
});

test("a model without biases is written with biases of zero, and config.json says so", async () => {
  const folder = newFolder();
  await writeHuggingFace(shakenGPT({ bias: false }), META, folder);
  assert.equal(JSON.parse(readFileSync(join(folder, "config.json"), "utf8")).bias, false);
  const file = new SafetensorsFile(join(folder, "model.safetensors"));
  const biases = [...file.entries].filter(([name]) => name.endsWith(".bias"));
  assert.equal(biases.length, 13);
  for (const [name, { shape }] of biases) {
    const data = new Float32Array(shape[0]!).fill(1);
    file.read(name, shape, data);
    assert.ok(data.every((number) => number === 0));
  }
  file.close();
});

test("how attention is computed is no setting of the model's: it is written whatever it was", async () => {
  const ways = { attention: "recompute", attn_chunk: 3 } as const;
  const folder = newFolder();
  for (const changes of [
    {},
    { pos: "rotary", norm: "rmsnorm", ffn: "swiglu", bias: false, tie_weights: false },
  ] as const) {
    await writeHuggingFace(shakenGPT({ ...changes, ...ways }), META, folder);
    const { config } = modelOf(openHF(folder));
    assert.deepEqual([config.attention, config.attn_chunk], ["auto", 0]);
  }
});

test("writing again takes away what belonged to the earlier model", async () => {
  const folder = newFolder();
  await writeHuggingFace(shakenGPT(), GPT2_META, folder);
  assert.ok(existsSync(join(folder, "vocab.json")));
  await writeHuggingFace(shakenGPT({ bias: false }), META, folder);
  assert.deepEqual(readdirSync(folder).sort(), ["config.json", "meta.json", "model.safetensors"]);
  assertSameModel(modelOf(openHF(folder)), shakenGPT({ bias: false }));
});

test("weights are placed where the file has our bytes: float32, with and without prefix; not where they are widened", () => {
  for (const [name, count] of [
    ["hf_gelu_new", 28],
    ["hf_no_prefix", 28],
    ["hf_untied", 29],
    ["hf_gelu_f16", 0],
    ["hf_sharded_bf16", 0],
  ] as const) {
    const opened = openHF(fixture(name));
    assert.equal(placedNames(opened).length, count, name);
    opened.tensors.close();
  }
});

test("config.json: other names of the same, keys that may be missing, and a vocabulary without a meaning", () => {
  for (const [changes, expected] of [
    [{ activation_function: "gelu_pytorch_tanh" }, { ffn: "gelu_tanh" }],
    [{ activation_function: "gelu_fast" }, { ffn: "gelu_tanh" }],
    [{ activation_function: "gelu" }, { ffn: "gelu" }],
    [{ activation_function: "swish" }, { ffn: "silu" }],
    [{ activation_function: undefined }, { ffn: "gelu_tanh" }],
    [{ n_positions: undefined, n_ctx: 16 }, { block_size: 16 }],
    [{ n_inner: 64 }, { n_embd: 16 }],
    [
      { tie_word_embeddings: undefined, bias: undefined },
      { tie_weights: true, bias: true },
    ],
    [{ resid_pdrop: 0.3 }, { dropout: 0.3 }],
    [{ resid_pdrop: undefined, layer_norm_epsilon: undefined, scale_attn_weights: undefined }, { dropout: 0.1 }],
  ] as [Record<string, unknown>, Record<string, unknown>][]) {
    const folder = copyOf("hf_gelu_new");
    editJson(folder, "config.json", changes);
    const { modelArgs, tokenizerMeta, tensors } = openHF(folder);
    tensors.close();
    assert.deepEqual({ ...modelArgs, ...expected }, modelArgs);
    assert.equal(tokenizerMeta, undefined);
  }
});

test("GPT-2's tokens are meant where there are as many", async () => {
  const folder = newFolder();
  await writeHuggingFace(shakenGPT({ vocab_size: 50_304, n_embd: 2 }), undefined, folder);
  const opened = openHF(folder);
  opened.tensors.close();
  assert.deepEqual(opened.tokenizerMeta, GPT2_META);
});

test("GPT-2's tokens are not meant where another program's tokenizer has others", async () => {
  const folder = newFolder();
  await writeHuggingFace(shakenGPT({ vocab_size: 50_257, n_embd: 2 }), GPT2_META, folder);
  rmSync(join(folder, "meta.json"));
  const metaNow = () => {
    const opened = openHF(folder);
    opened.tensors.close();
    return opened.tokenizerMeta;
  };
  assert.deepEqual(metaNow(), GPT2_META);
  const { model } = JSON.parse(readFileSync(join(folder, "tokenizer.json"), "utf8"));
  editJson(folder, "tokenizer.json", { model: { ...model, vocab: { ...model.vocab, Ġthe: 263, Ġc: 262 } } });
  assert.equal(metaNow(), undefined);
  rmSync(join(folder, "tokenizer.json"));
  assert.deepEqual(metaNow(), GPT2_META);
  editJson(folder, "vocab.json", { Ġt: 257, Ġa: 256 });
  assert.equal(metaNow(), undefined);
});

test("the causal masks of older files are passed over", () => {
  const folder = copyOf("hf_gelu_new");
  const masks = [
    { name: "transformer.h.0.attn.bias", shape: [1, 1, 16, 16], data: new Float32Array(256) },
    { name: "transformer.h.0.attn.masked_bias", shape: [], data: new Float32Array(1) },
  ];
  writeTensors(folder, [...tensorsIn(folder), ...masks]);
  assertSameModel(modelOf(openHF(folder)), modelOf(openHF(fixture("hf_gelu_new"))));
});

testHuggingFaceFolder({ tied: "hf_gelu_new", embeddings: "transformer.wte.weight", layers: "n_layer" });

test("one line: layers that neither GPT-2 nor Llama has, and nothing is written", async () => {
  for (const [changes, message] of [
    [{ ffn: "swiglu" }, /^hf is for GPT-2's layers, and this model has ffn swiglu; export it as --format=onnx$/],
    [{ norm: "rmsnorm" }, /^hf is for GPT-2's layers, and this model has norm rmsnorm; export it/],
    [{ pos: "rotary" }, /^hf is for .* Llama, Mistral and Qwen3; .* rotary like Llama, but norm layernorm; export it/],
  ] as const) {
    const folder = newFolder();
    await assert.rejects(writeHuggingFace(shakenGPT(changes), META, folder), userError(message));
    assert.equal(existsSync(folder), false);
  }
});

const NUMBER = "an integer of at least 1";
const settings: [Record<string, unknown>, RegExp][] = [
  [{ model_type: "mamba" }, /config\.json: model_type must be one of gpt2, llama, .*got "mamba"/],
  [{ model_type: undefined }, /model_type must be one of gpt2, llama, .*, got nothing/],
  [{ n_layer: "two" }, RegExp(`n_layer must be ${NUMBER}, got "two"`)],
  [{ n_head: undefined }, RegExp(`n_head must be ${NUMBER}, got nothing`)],
  [{ vocab_size: 1e6 }, /vocab_size must be an integer from 1 to 65536, got 1000000/],
  [{ n_head: 3 }, /config\.json: n_embd 16 does not divide by n_head 3/],
  [{ activation_function: "mish" }, /one of gelu_new, .*, relu, relu2, silu, swish, got "mish"/],
  [{ layer_norm_epsilon: 1e-6 }, /layer_norm_epsilon must be 0\.00001, .*got 0\.000001/],
  [{ n_inner: 48 }, /n_inner must be null or 4 n_embd, 64, .*got 48/],
  [{ scale_attn_weights: false }, /scale_attn_weights must be true, .*got false/],
  [{ scale_attn_by_inverse_layer_idx: true }, /scale_attn_by_inverse_layer_idx must be false/],
  [{ add_cross_attention: true }, /add_cross_attention must be false, .*got true/],
  [{ resid_pdrop: 1 }, /resid_pdrop must be a number from 0 to below 1, got 1/],
  [{ tie_word_embeddings: null }, /tie_word_embeddings must be true or false, got null/],
  [{ bias: false }, /safetensors: transformer\..*bias is not zero, but bias is false in /],
  [{ n_layer: 3 }, /no tensor transformer\.h\.2\.ln_1\.weight, which .*config\.json asks/],
  [{ n_layer: 1e9 }, /n_layer must be an integer of at most 10000, got 1000000000/],
  [{ n_layer: 1 }, /a tensor "transformer\.h\.1\..*", for which .*config\.json has no place/],
  [{ vocab_size: 97 }, /transformer\.wte\.weight as F32 \[61,16\]; .*config\.json asks for \[97,16\]/],
  [{ n_positions: 32 }, /transformer\.wpe\.weight as F32 \[16,16\]; .* asks for \[32,16\]/],
  [{ tie_word_embeddings: false }, /has no tensor lm_head\.weight, which/],
];
for (const [changes, message] of settings) {
  test(`one line: config.json with ${inspect(changes, { breakLength: Infinity })}`, () => {
    const folder = copyOf("hf_gelu_new");
    editJson(folder, "config.json", changes);
    assert.throws(() => openHF(folder), userError(message));
  });
}

const write = (name: string, text: string) => (folder: string) => writeFileSync(join(folder, name), text);
const remove = (name: string) => (folder: string) => rmSync(join(folder, name));
const edit = (change: (tensors: NamedTensor[]) => NamedTensor[]) => (folder: string) =>
  writeTensors(folder, change(tensorsIn(folder)));
const INTEGERS = { name: "transformer.ln_f.bias", shape: [16], data: new Int32Array(16) };
const HEAD = { name: "lm_head.weight", shape: [16], data: new Float32Array(16) };
const damages: [string, (folder: string) => void, RegExp][] = [
  ["no config.json", remove("config.json"), /^no config\.json in /],
  ["a config.json cut off", write("config.json", '{"n_layer": 2'), /config\.json: it is not JSON/],
  ["a list for settings", write("config.json", "[1]"), /must hold an object of settings/],
  ["no weights", remove("model.safetensors"), /no model\.safetensors in /],
  [
    "weights as a pickle",
    (folder) => renameSync(join(folder, "model.safetensors"), join(folder, "pytorch_model.bin")),
    /has its weights in pytorch_model\.bin; docs\/guides\/formats\.md says how/,
  ],
  ["no safetensors", write("model.safetensors", "x"), /is not a whole safetensors file/],
  [
    "integers for floats",
    edit((tensors) => [...tensors.filter(({ name }) => name !== INTEGERS.name), INTEGERS]),
    /transformer\.ln_f\.bias as I32 \[16\], not as floats/,
  ],
  [
    "a name with the prefix among names without",
    edit((tensors) => tensors.map(({ name, ...rest }) => ({ ...rest, name: name.replace("transformer.wpe", "wpe") }))),
    /has no tensor transformer\.wpe\.weight/,
  ],
  [
    "an output layer of another shape",
    edit((tensors) => [...tensors, HEAD]),
    /lm_head\.weight as F32 \[16\]; .* asks for \[61,16\]/,
  ],
  ["a meta.json that is none", write("meta.json", "{}"), /meta\.json has a wrong field, kind/],
  [
    "a meta.json of more tokens",
    write("meta.json", JSON.stringify(GPT2_META)),
    /meta\.json has 50257 tokens, but the model in its folder 61/,
  ],
];
for (const [what, damage, message] of damages) {
  test(`one line: ${what}`, () => {
    const folder = copyOf("hf_gelu_new");
    damage(folder);
    assert.throws(() => openHF(folder), userError(message));
  });
}

test("a folder that was written in part is not a model", async () => {
  const folder = newFolder();
  await writeHuggingFace(shakenGPT(), META, folder);
  rmSync(join(folder, "model.safetensors"));
  mkdirSync(join(folder, "model.safetensors")); // can't be replaced by a file
  await assert.rejects(
    writeHuggingFace(shakenGPT(), META, folder),
    (error) => error instanceof Error && "code" in error,
  );
  assert.throws(() => openHF(folder), userError(/^no config\.json in /));
});
