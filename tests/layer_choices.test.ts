// The model with choices other than GPT-2's, against PyTorch and transformers (tests/fixtures/layers) and against itself:
// compiled and eager, drawn from a cache and without one.

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";

import { InferenceSession, Tensor } from "onnxruntime-node";

import { findConflict } from "../config/rules.ts";
import type { InputName } from "../data/objective.ts";
import { createCachedDecoder } from "../decoding/cached_decoder.ts";
import { createGuesser } from "../decoding/fill_masks.ts";
import { createPlainDecoder } from "../decoding/plain_decoder.ts";
import { saveCheckpoint } from "../engine/checkpoint.ts";
import { AdamW } from "../engine/optimizer.ts";
import { keyOf, uniform } from "../engine/rng.ts";
import { writeOnnx } from "../formats/onnx.ts";
import { openModel } from "../formats/pretrained.ts";
import { GPT, GPT2_CHOICES, type GPTConfig } from "../model.ts";
import { feedForwards } from "../nn/feed_forward.ts";
import { norms } from "../nn/norm.ts";
import { positions } from "../nn/position.ts";
import { attentions } from "../nn/query_blocks.ts";
import { layerFixture, layerIndex, takeWeights } from "./fixtures/layers/read.ts";
import { temporaryFolder } from "./scripts.ts";
import { assertClose, compiled, eager, lossProgram, randomBatch, randomInts, shaken } from "./support.ts";

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
  { ffn: "moe", n_expert: 4, n_hidden: 12, expert_capacity: 0.8, pos: "rotary", dropout: 0.1 },
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
    const batch = randomBatch(model, 3);
    const grads: Float32Array[][] = [];
    const losses: Float32Array[] = [];
    for (const engine of [eager, compiled]) {
      const program = await lossProgram(engine, model, 3);
      losses.push((await program.run(batch, { dropout: [1, 2] })).slice());
      grads.push(model.parameters.map(({ grad }) => grad!.slice()));
      await program.dispose();
    }
    // gradients of up to 1, summed over 42 positions and two layers in single precision
    assertClose(losses[1]!, losses[0]!, { atol: 3e-6, rtol: 1e-5, label: "loss" });
    model.parameters.forEach(({ name }, i) => {
      assertClose(grads[1]![i]!, grads[0]![i]!, { atol: 2e-5, rtol: 1e-4, label: name });
    });

    if (choice.architecture === "encoder") return; // it writes no text
    const decoder = await createCachedDecoder(compiled, model);
    const plain = createPlainDecoder(model);
    const compare = (a: Float32Array, b: Float32Array, at: number) =>
      assertClose(a, b, { atol: 5e-5, rtol: 1e-4, label: `token ${at}` });
    compare(await decoder.start([1, 2, 3], 2), await plain.start([1, 2, 3], 2), 3);
    for (let i = 0; i < 15; i++) {
      const tokens = [...randomInts(`tokens ${i}`, [2], 0, decoder.vocabSize)];
      compare(await decoder.next(tokens), await plain.next(tokens), 4 + i);
    }
    await decoder.dispose();
  });
}

test("attention in one piece has no blocks", () => {
  const dense = { ...GPT2_CHOICES, attention: "dense" };
  assert.equal(findConflict(dense), undefined);
  const { problem, keys } = findConflict({ ...dense, attn_block_size: 64 })!;
  assert.equal(problem, 'attention "dense" has no blocks, so no attn_block_size 64; leave one of them out');
  assert.deepEqual(keys, ["attention", "attn_block_size"]);
});

/** One of the values, the same in every run. */
function draw<T>(values: readonly T[], ...key: (string | number)[]): T {
  return values[Math.floor(uniform(keyOf("combinations", ...key), 0) * values.length)]!;
}

/** A choice for every key at once; those that can't go together are drawn again. */
function combination(index: number): Partial<GPTConfig> {
  for (let attempt = 0; ; attempt++) {
    const one = <T>(name: string, values: readonly T[]) => draw(values, index, attempt, name);
    const n_head = one("n_head", [1, 2, 4]);
    const config = {
      architecture: one("architecture", ["decoder", "decoder", "encoder", "encoder_decoder"]),
      n_head,
      n_embd: n_head * one("D", [4, 6, 8, 16]),
      n_kv_head: one("n_kv_head", [0, 1, 2]),
      n_layer: one("n_layer", [1, 2]),
      attention: one("attention", Object.keys(attentions)),
      attn_block_size: one("attn_block_size", [0, 1, 3]),
      block_size: 10,
      dropout: one("dropout", [0, 0.2]),
      bias: one("bias", [true, false]),
      ffn: one("ffn", Object.keys(feedForwards)),
      n_hidden: one("n_hidden", [0, 20]),
      ...{ n_expert: 4, n_expert_active: one("n_expert_active", [1, 2]), n_shared_hidden: one("shared", [0, 12]) },
      expert_capacity: one("expert_capacity", [0, 0.7]),
      pos: one("pos", Object.keys(positions)),
      rope_fraction: one("rope_fraction", [1, 0.5]),
      window: one("window", [0, 1, 4, 30]),
      attn_global: one("attn_global", [0, 2]),
      ...{ attn_stride: one("attn_stride", [0, 3]), attn_stride_from: one("attn_stride_from", ["start", "query"]) },
      attn_softcap: one("attn_softcap", [0, 3]),
      qk_norm: one("qk_norm", [true, false]),
      norm: one("norm", Object.keys(norms)),
      norm_position: one("norm_position", ["pre", "post", "sandwich"]),
      ...{ parallel_block: one("parallel_block", [true, false]), parallel_norms: one("parallel_norms", [1, 2]) },
      stochastic_depth: one("stochastic_depth", [0, 0.4]),
      tie_weights: one("tie_weights", [true, false]),
      logit_softcap: one("logit_softcap", [0, 5]),
    };
    if (!findConflict({ ...GPT2_CHOICES, ...config })) return config;
  }
}

for (let index = 0; index < 40; index++) {
  const config = combination(index);
  const different = Object.entries(config).filter(([key, value]) => GPT2_CHOICES[key as "pos"] !== value);
  test(`combination ${index}: ${different.map(([key, value]) => `${key}=${value}`).join(" ")}`, async () => {
    // the gradients of the eager model, and two steps
    const model = shaken(config);
    const grads: Float32Array[][] = [];
    for (const engine of [eager, compiled]) {
      const program = await lossProgram(engine, model, 2);
      await program.run(randomBatch(model, 2), { dropout: [0] });
      grads.push(model.parameters.map(({ grad }) => grad!.slice()));
      if (engine === compiled) {
        const optimizer = new AdamW(model.decayGroups(), { beta1: 0.9, beta2: 0.99, weight_decay: 0.1, grad_clip: 1 });
        assert.ok(optimizer.step(1e-2) > 0);
        await program.run(randomBatch(model, 2), { dropout: [1] });
        assert.ok(optimizer.step(1e-2) > 0);
      }
      await program.dispose();
    }
    model.parameters.forEach(({ name }, i) => {
      // gradients of up to some 10, summed over 20 positions and two layers in single precision
      assertClose(grads[1]![i]!, grads[0]![i]!, { atol: 5e-5, rtol: 1e-3, label: name });
    });

    // from a checkpoint: as it was saved, by the settings that it keeps
    const folder = temporaryFolder();
    saveCheckpoint(folder, { ...STATE, model_args: { ...model.config } }, model.parameters);
    const opened = await openModel(folder, "", { log: () => {} });
    const loaded = new GPT(opened.modelArgs);
    opened.read(loaded);
    opened.close();
    assert.deepEqual(loaded.config, model.config);

    const compare = (a: Float32Array, b: Float32Array, at: string) =>
      assertClose(a, b, { atol: 1e-4, rtol: 1e-4, label: at });
    const ids = Int32Array.of(1, 5, 2, 8, 3);
    if (config.architecture === "encoder") return guessAndExport(loaded, model, ids, folder, compare);

    // drawn with a cache and without
    const decoder = await createCachedDecoder(compiled, loaded);
    const plain = createPlainDecoder(model);
    compare(await decoder.start([1, 2, 3], 2), await plain.start([1, 2, 3], 2), "the prompt");
    for (let i = 0; i < 9; i++) {
      const tokens = [...randomInts(`tokens ${i}`, [2], 0, decoder.vocabSize)];
      compare(await decoder.next(tokens), await plain.next(tokens), `token ${i}`);
    }
    await decoder.dispose();

    // exported: ONNX holds them all, in its own operators
    if (config.architecture !== "decoder") {
      return assert.rejects(writeOnnx(loaded, undefined, folder), {
        name: "UserError",
        message: /encoder_decoder is two/,
      });
    }
    await writeOnnx(loaded, undefined, folder, 2 ** 30);
    const session = await InferenceSession.create(join(folder, "model.onnx"));
    const K = loaded.config.n_kv_head || loaded.config.n_head;
    const past: Record<string, Tensor> = {};
    for (let i = 0; i < loaded.config.n_layer; i++) {
      const empty = () =>
        new Tensor("float32", new Float32Array(), [1, K, 0, loaded.config.n_embd / loaded.config.n_head]);
      Object.assign(past, { [`past.${i}.key`]: empty(), [`past.${i}.value`]: empty() });
    }
    const results = await session.run({ input_ids: new Tensor("int32", ids, [1, 5]), ...past });
    const logits = (results.logits!.data as Float32Array).slice(-loaded.config.vocab_size);
    compare(logits, await createPlainDecoder(model).start([...ids], 1), "exported");
    const next: Record<string, Tensor> = {};
    for (const [name, tensor] of Object.entries(results)) {
      if (name.startsWith("present")) next[name.replace("present", "past")] = tensor as Tensor;
    }
    const more = await session.run({ input_ids: new Tensor("int32", Int32Array.of(7), [1, 1]), ...next });
    compare(
      more.logits!.data as Float32Array,
      await createPlainDecoder(model).start([...ids, 7], 1),
      "exported, one more",
    );
    await session.release();
  });
}

/** An encoder's logits, compiled and as ONNX, are those of the plain model. */
async function guessAndExport(
  loaded: GPT,
  model: GPT,
  ids: Int32Array,
  folder: string,
  compare: (a: Float32Array, b: Float32Array, at: string) => void,
): Promise<void> {
  const [guess, plain] = [await createGuesser(compiled, loaded, {}), await createGuesser(eager, model)];
  const expected = await plain.run([...ids]);
  compare(await guess.run([...ids]), expected, "guessed");
  await guess.dispose();
  await writeOnnx(loaded, undefined, folder, 2 ** 30);
  const session = await InferenceSession.create(join(folder, "model.onnx"));
  const { logits } = await session.run({ input_ids: new Tensor("int32", ids, [1, ids.length]) });
  compare(logits!.data as Float32Array, expected, "exported");
  await session.release();
}

const STATE = {
  config: {},
  iter_num: 2,
  best_val_loss: null,
  rng: { seed: 1, iteration: 2 },
  optimizer_steps: 2,
  tokenizer: null,
};
