// lib/formats/nanogpt.ts: what is written is read again to the bit, in nanoGPT's own names and orientation, and one line for
// all that can't be. That the numbers are nanoGPT's own is tested in parity_huggingface.test.ts.

import assert from "node:assert/strict";
import { cpSync, existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import type { NamedTensor } from "../../../lib/common/safetensors.ts";
import { openNanoGPT, writeNanoGPT } from "../../../lib/formats/nanogpt.ts";
import { GPT2_META } from "../../../lib/text/meta.ts";
import { assertSameBits } from "../../support.ts";
import { userError } from "../text/support.ts";
import {
  assertSameModel,
  editJson,
  fixture,
  modelOf,
  newFolder,
  placedNames,
  shakenGPT,
  tensorsIn,
  writeTensors,
} from "./support.ts";

for (const changes of [{}, { bias: false, dropout: 0.2 }, { n_embd: 40, n_layer: 1, vocab_size: 70 }]) {
  test(`model -> files -> model, to the bit: ${JSON.stringify(changes)}`, () => {
    const [model, folder] = [shakenGPT(changes), newFolder()];
    writeNanoGPT(model, undefined, folder);
    assert.deepEqual(readdirSync(folder).sort(), ["model.safetensors", "model_args.json"]);
    assertSameModel(modelOf(openNanoGPT(folder)), model);
  });
}

test("nanoGPT's file -> model -> file: the tensors that nanoGPT wrote, to the bit", () => {
  const folder = newFolder();
  writeNanoGPT(modelOf(openNanoGPT(fixture("nanogpt"))), undefined, folder);
  const ours = new Map(tensorsIn(folder).map((tensor) => [tensor.name, tensor]));
  const theirs = tensorsIn(fixture("nanogpt"));
  assert.equal(ours.size, theirs.length);
  for (const { name, shape, data } of theirs) {
    const tensor = ours.get(name.replace(/^_orig_mod\./, ""));
    assert.deepEqual(tensor?.shape, shape, name);
    assertSameBits(tensor.data as Float32Array, data as Float32Array, name);
  }
});

test("all but the linear layers lie in the file as they are", () => {
  const opened = openNanoGPT(fixture("nanogpt"));
  const placed = placedNames(opened);
  opened.tensors.close();
  assert.deepEqual(placed, [
    "transformer.wte.weight",
    "transformer.wpe.weight",
    ...[0, 1].flatMap((i) => [`transformer.h.${i}.ln_1.weight`, `transformer.h.${i}.ln_2.weight`]),
    "transformer.ln_f.weight",
  ]);
});

test("the output layer and the causal masks may be there or not; a meta.json says what the tokens mean", () => {
  const [model, folder] = [shakenGPT({ vocab_size: 50_257, n_embd: 2 }), newFolder()];
  writeNanoGPT(model, GPT2_META, folder);
  const tensors = tensorsIn(folder).filter(({ name }) => name !== "lm_head.weight");
  const mask = { name: "transformer.h.1.attn.bias", shape: [1, 1, 6, 6], data: new Float32Array(36) };
  writeTensors(folder, [...tensors, mask]);
  const opened = openNanoGPT(folder);
  assert.deepEqual(opened.tokenizerMeta, GPT2_META);
  assertSameModel(modelOf(opened), model);
});

test("what nanoGPT can't run is not written for it", () => {
  const folder = newFolder();
  assert.throws(
    () => writeNanoGPT(shakenGPT({ ffn: "gelu_tanh" }), undefined, folder),
    userError(/activation is gelu, this model's gelu_tanh; export it as --format=hf/),
  );
  assert.throws(
    () => writeNanoGPT(shakenGPT({ tie_weights: false }), undefined, folder),
    userError(/output layer is its token embeddings/),
  );
  assert.ok(!existsSync(folder));
});

const remove = (name: string) => (folder: string) => rmSync(join(folder, name));
const args = (changes: Record<string, unknown>) => (folder: string) => editJson(folder, "model_args.json", changes);
const mistakes: [string, (folder: string) => void, RegExp][] = [
  ["no model_args.json", remove("model_args.json"), /^no model_args\.json in /],
  ["no weights", remove("model.safetensors"), /no model\.safetensors in /],
  ["no n_head", args({ n_head: undefined }), /n_head must be an integer/],
  ["heads that don't fit", args({ n_head: 5 }), /16 does not divide by n_head 5/],
  ["text for bias", args({ bias: "no" }), /bias must be true or false, got "no"/],
  ["biases that are not there", args({ bias: true }), /has no tensor _orig_mod\.tra.*\.bias/],
  ["a longer context", args({ block_size: 17 }), /wpe\.weight as F32 \[16,16\]; .*\[17,16\]/],
  [
    "a linear layer the other way round",
    (folder) => {
      const turned = ({ name, shape, data }: NamedTensor) =>
        name.endsWith("0.mlp.c_fc.weight") ? { name, shape: shape.toReversed(), data } : { name, shape, data };
      writeTensors(folder, tensorsIn(folder).map(turned));
    },
    /h\.0\.mlp\.c_fc\.weight as F32 \[16,64\]; .* asks for \[64,16\]/,
  ],
  [
    "an output layer of its own",
    (folder) => {
      const tensors = tensorsIn(folder);
      tensors.find(({ name }) => name.endsWith("lm_head.weight"))!.data[5] = 1;
      writeTensors(folder, tensors);
    },
    /_orig_mod\.lm_head\.weight is not _orig_mod\.transformer\.wte\.weight/,
  ],
  [
    "a tensor too much",
    (folder) => writeTensors(folder, [...tensorsIn(folder), { name: "x\ny", shape: [1], data: new Float32Array(1) }]),
    /has a tensor "x\\ny", for which .*model_args\.json has no place/,
  ],
];
for (const [what, spoil, message] of mistakes) {
  test(`one line: ${what}`, () => {
    const folder = newFolder();
    cpSync(fixture("nanogpt"), folder, { recursive: true });
    spoil(folder);
    assert.throws(() => openNanoGPT(folder), userError(message));
  });
}
