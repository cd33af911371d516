// What tools/export.ts writes, loaded by the programs that it is for: transformers with PyTorch where a Python has them
// (NANOGPT_PYTHON names one), and Hugging Face's tokenizers and safetensors, which are installed if need be.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { writeHuggingFace } from "../lib/formats/huggingface.ts";
import { writeNanoGPT } from "../lib/formats/nanogpt.ts";
import { writeOnnx } from "../lib/formats/onnx.ts";
import { GPT2_META } from "../lib/text/meta.ts";
import { createTokenizer } from "../lib/text/tokenizer.ts";
import type { GPT } from "../model.ts";
import { shakenGPT } from "./lib/formats/support.ts";
import { randomNumbers, randomText } from "./lib/text/support.ts";
import { pythonWith, runPython } from "./python.ts";
import { madeUpText, temporaryFolder } from "./scripts.ts";
import { assertClose, eager, randomInts } from "./support.ts";

const FOLDER = temporaryFolder();

const TEXTS = [
  "Hello world! It's 2024, isn't it?  We'll see\n\n\tindented  text   ",
  "naïve café, Ünïcödé, 東京 🙂👩‍👩‍👧 \u00a0 \u0085 \ufeff x",
  "The end.<|endoftext|>A new document",
  madeUpText(2000),
  randomText(randomNumbers(7), 500),
];
const tokenizer = await createTokenizer(GPT2_META);
const ids = TEXTS.map((text) => tokenizer.encode(text, { special: true }));

async function logitsOf(model: GPT, tokens: Int32Array): Promise<Float32Array> {
  const program = await eager.program(({ x }) => model.logits(x), {
    variables: model.parameters,
    inputs: { x: { shape: [1, tokens.length], dtype: "int32" } },
  });
  const logits = (await program.run({ x: tokens })).slice();
  await program.dispose();
  return logits;
}

const small = pythonWith(["tokenizers", "safetensors", "numpy"]);
test("tokenizer.json, vocab.json and merges.txt give our tokens in Python; the weights are the same numbers", {
  skip: "missing" in small && small.missing,
}, async () => {
  if ("missing" in small) return;
  const [folder, model] = [join(FOLDER, "gpt2"), shakenGPT({ vocab_size: 50_257, n_embd: 2 })];
  await writeHuggingFace(model, GPT2_META, folder);
  const program = `
import json, sys
from safetensors.numpy import load_file
from tokenizers import Tokenizer, AddedToken, models, pre_tokenizers
folder, texts = sys.argv[1], json.loads(sys.argv[2])
fast = Tokenizer.from_file(folder + "/tokenizer.json")
slow = Tokenizer(models.BPE.from_file(folder + "/vocab.json", folder + "/merges.txt"))
slow.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
slow.add_special_tokens([AddedToken("<|endoftext|>", normalized=False)])
ids = [[tokenizer.encode(text).ids for text in texts] for tokenizer in (fast, slow)]
decoded = [fast.decode(row, skip_special_tokens=False) for row in ids[0]]
weights = load_file(folder + "/model.safetensors")
print(json.dumps(dict(ids=ids, decoded=decoded, size=fast.get_vocab_size(),
    sums={name: [list(w.shape), str(w.dtype), float(w.astype("float64").sum())] for name, w in weights.items()})))`;
  const said = (await runPython(small.python, program, [folder, JSON.stringify(TEXTS)])) as Record<string, unknown>;
  assert.deepEqual(said.ids, [ids, ids]);
  assert.deepEqual(said.decoded, TEXTS);
  assert.equal(said.size, 50_257);
  const sums = model.parameters.map(({ name, shape, data }) => [
    name,
    [[...shape], "float32", data.reduce((sum, number) => sum + number, 0)],
  ]);
  const theirs = said.sums as Record<string, [number[], string, number]>;
  assert.equal(Object.keys(theirs).length, sums.length);
  for (const [name, [shape, dtype, sum]] of sums as [string, [number[], string, number]][]) {
    assert.deepEqual(theirs[name]?.slice(0, 2), [shape, dtype]);
    assertClose([theirs[name]![2]], [sum], { atol: 1e-6, label: name }); // numpy adds up in another order
  }
});

const large = pythonWith(["torch", "transformers"]);
const LARGE = { skip: "missing" in large && large.missing };

/** Written as hf, each must be of the class `name` in transformers, have all of its weights and give our logits. */
async function assertSameInTransformers(models: readonly GPT[], name: string, tokens: Int32Array): Promise<void> {
  if ("missing" in large) return;
  const folders = models.map((_, i) => join(FOLDER, `${name}${i}`));
  for (const [i, model] of models.entries()) await writeHuggingFace(model, undefined, folders[i]!);
  const program = `
import json, sys, torch
from transformers import AutoModelForCausalLM
answers = []
for folder in sys.argv[3:]:
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert type(model).__name__ == sys.argv[2] and model.dtype == torch.float32
    with torch.no_grad():
        logits = model.eval()(torch.tensor([json.loads(sys.argv[1])])).logits[0]
    wrong = sum(len(info[key]) for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    answers.append(dict(logits=logits.flatten().tolist(), wrong=wrong))
print(json.dumps(answers))`;
  const answers = await runPython(large.python, program, [JSON.stringify([...tokens]), name, ...folders]);
  for (const [i, { logits, wrong }] of (answers as { logits: number[]; wrong: number }[]).entries()) {
    // sums of a few dozen products of numbers up to 2, through two layers, in single precision
    assertClose(logits, await logitsOf(models[i]!, tokens), { atol: 1e-4, label: `${name} ${i}` });
    assert.equal(wrong, 0);
  }
  assert.equal((answers as unknown[]).length, models.length);
}

test("transformers' GPT2LMHeadModel computes our logits, with biases or without, tied or not", LARGE, async () => {
  const models = [
    shakenGPT(),
    shakenGPT({ bias: false, ffn: "gelu_tanh" }),
    shakenGPT({ tie_weights: false, ffn: "relu" }),
    shakenGPT({ ffn: "silu", bias: false, tie_weights: false, n_head: 4 }),
    shakenGPT({ ffn: "relu2" }),
  ];
  await assertSameInTransformers(models, "GPT2LMHeadModel", randomInts("ids", [6], 0, 11));
});

const LLAMA = {
  pos: "rotary",
  norm: "rmsnorm",
  ffn: "swiglu",
  bias: false,
  block_size: 12,
  n_embd: 16,
  n_head: 4,
} as const;
for (const [name, variants] of [
  [
    "LlamaForCausalLM",
    [
      {},
      { n_kv_head: 2, tie_weights: false, rope_theta: 100 },
      { bias: true, ffn: "geglu", n_kv_head: 1, n_hidden: 9 },
    ],
  ],
  ["MistralForCausalLM", [{ window: 4 }, { window: 1, n_kv_head: 2, ffn: "geglu_tanh", norm_eps: 0.1 }]],
  [
    "Qwen3ForCausalLM",
    [
      { qk_norm: true, tie_weights: false },
      { qk_norm: true, window: 4, n_kv_head: 2 },
    ],
  ],
] as const) {
  test(
    `transformers' ${name} computes our logits: ${variants.map((v) => JSON.stringify(v)).join(" ")}`,
    LARGE,
    async () => {
      const models = variants.map((changes) => shakenGPT({ ...LLAMA, ...changes }));
      await assertSameInTransformers(models, name, randomInts("ids", [12], 0, 11));
    },
  );
}

test("transformers' tokenizers of an exported folder give our tokens", LARGE, async () => {
  if ("missing" in large) return;
  const folders = ["gpt2", "llama"].map((name) => join(FOLDER, `tokenizer-${name}`));
  const size = { vocab_size: 50_257, n_embd: 4 };
  await writeHuggingFace(shakenGPT(size), GPT2_META, folders[0]!);
  await writeHuggingFace(shakenGPT({ ...LLAMA, ...size, n_head: 2 }), GPT2_META, folders[1]!);
  const program = `
import json, sys
from transformers import AutoTokenizer, GPT2Tokenizer
texts = json.loads(sys.argv[2])
auto, gpt2 = AutoTokenizer.from_pretrained(sys.argv[1]), GPT2Tokenizer.from_pretrained(sys.argv[1])
print(json.dumps(dict(ids=[[t(text)["input_ids"] for text in texts] for t in (auto, gpt2)], eos=auto.eos_token_id)))`;
  for (const folder of folders) {
    const said = await runPython(large.python, program, [folder, JSON.stringify(TEXTS)]);
    assert.deepEqual(said, { ids: [ids, ids], eos: 50_256 }, folder);
  }
});

test("PyTorch's linear layers have nanoGPT's orientation in an exported folder", LARGE, async () => {
  if ("missing" in large) return;
  const [folder, model] = [join(FOLDER, "nanogpt"), shakenGPT()];
  writeNanoGPT(model, undefined, folder);
  const program = `
import json, sys, torch
from safetensors.torch import load_file
state = load_file(sys.argv[1] + "/model.safetensors")
layer = torch.nn.Linear(8, 24)
layer.load_state_dict({key: state["transformer.h.1.attn.c_attn." + key] for key in ("weight", "bias")})
with torch.no_grad():
    print(json.dumps(dict(y=layer(torch.arange(8.0)).tolist(), tied=bool((state["lm_head.weight"] == state["transformer.wte.weight"]).all()))))`;
  const said = (await runPython(large.python, program, [folder])) as { y: number[]; tied: boolean };
  const find = (name: string) =>
    model.parameters.find((parameter) => parameter.name === `transformer.h.1.attn.${name}`)!;
  const [weight, bias] = [find("c_attn.weight").data, find("c_attn.bias").data];
  const y = Array.from(
    bias,
    (b, d) => b + Array.from({ length: 8 }, (_, c) => c * weight[c * 24 + d]!).reduce((a, x) => a + x),
  );
  assertClose(said.y, y, { atol: 1e-5, label: "y" }); // eight products of up to 14
  assert.ok(said.tied);
});

const onnx = pythonWith(["onnx", "onnxruntime", "numpy"]);
test("onnx.checker takes the exported ONNX model, and Python's onnxruntime computes our logits with it", {
  skip: "missing" in onnx && onnx.missing,
}, async () => {
  if ("missing" in onnx) return;
  for (const most of [1e9, 0]) {
    const [folder, model] = [join(FOLDER, `onnx${most}`), shakenGPT({ vocab_size: 40, n_layer: 2 })];
    const { n_layer, n_head, n_embd } = model.config;
    mkdirSync(folder);
    await writeOnnx(model, undefined, folder, most); // weights inside, and beside it
    const tokens = randomInts("onnx", [2, 6], 0, 40);
    const program = `
import json, sys
import numpy as np, onnx, onnxruntime
path, shape, rows = sys.argv[1], json.loads(sys.argv[2]), np.array(json.loads(sys.argv[3]), dtype=np.int32)
onnx.checker.check_model(path, full_check=True)
domains = sorted({node.domain for node in onnx.load(path, load_external_data=False).graph.node})
session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
names = [f"{layer}.{kind}" for layer in range(shape["layers"]) for kind in ("key", "value")]
def run(ids, past):
    feeds = {f"past.{name}": array for name, array in past.items()}
    results = session.run(None, {"input_ids": ids, **feeds})
    given = dict(zip([output.name for output in session.get_outputs()], results))
    return given["logits"], {name: given[f"present.{name}"] for name in names}
def empty(batch):
    return {name: np.zeros((batch, shape["heads"], 0, shape["size"]), np.float32) for name in names}
whole, _ = run(rows, empty(len(rows)))
past, pieces = empty(len(rows)), []
for at in range(rows.shape[1]):
    logits, past = run(rows[:, at : at + 1], past)
    pieces.append(logits)
print(json.dumps(dict(domains=domains, whole=whole.ravel().tolist(), pieces=np.concatenate(pieces, 1).ravel().tolist())))`;
    const shape = JSON.stringify({ layers: n_layer, heads: n_head, size: n_embd / n_head });
    const rows = JSON.stringify([[...tokens.subarray(0, 6)], [...tokens.subarray(6)]]);
    const said = await runPython(onnx.python, program, [join(folder, "model.onnx"), shape, rows]);
    const { domains, whole, pieces } = said as { domains: string[]; whole: number[]; pieces: number[] };
    assert.deepEqual(domains, [""], "standard operators only");
    const expected = [...(await logitsOf(model, tokens.slice(0, 6))), ...(await logitsOf(model, tokens.slice(6)))];
    assertClose(whole, expected, { atol: 1e-4, label: "at once" });
    assertClose(pieces, expected, { atol: 1e-4, label: "token by token" });
  }
});
