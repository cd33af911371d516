// Choices drawn at random, all keys at once: of layers, of the optimizer and its schedule, of memory and number format. What
// each is held to by itself must hold for all of them together: compiled as eager, resumed as never stopped, drawn with
// a cache as without, and exported as it is.
//
//   COMBINATIONS=200 npm test -- tests/combinations.test.ts   # more of them

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import type { Tensor as OrtTensor } from "onnxruntime-node";
import { keyOf, uniform } from "../lib/common/rng.ts";
import { createCachedDecoder } from "../lib/decoding/cached_decoder.ts";
import { createGuesser } from "../lib/decoding/fill_masks.ts";
import { createPlainDecoder } from "../lib/decoding/plain_decoder.ts";
import { writeHuggingFace } from "../lib/formats/huggingface.ts";
import { writeOnnx } from "../lib/formats/onnx.ts";
import { openModel } from "../lib/formats/pretrained.ts";
import { GATED, NAMES } from "../lib/nn/choices.ts";
import { findConflict } from "../lib/settings/rules.ts";
import { saveCheckpoint } from "../lib/training/checkpoint.ts";
import { OPTIMIZERS, type OptimizerName, SCHEDULES, type ScheduleName } from "../lib/training/choices.ts";
import { createObjective } from "../lib/training/objective.ts";
import { createOptimizer } from "../lib/training/optimizers/create.ts";
import { learningRateAt } from "../lib/training/schedule.ts";
import { Step } from "../lib/training/step.ts";
import type { TrainingState } from "../lib/training/training_state.ts";
import { GPT, type GPTConfig, LAYER_CHOICES } from "../model.ts";
import { follow } from "./lib/decoding/support.ts";
import { modelOf, openHF } from "./lib/formats/support.ts";
import { temporaryFolder } from "./scripts.ts";
import {
  assertClose,
  assertEnginesAgree,
  assertSameBits,
  compiled,
  eager,
  GUESSED,
  randomBatch,
  shaken,
} from "./support.ts";

// ---- what is drawn -----------------------------------------------------------------------------------------------

/** What model.ts isn't told. */
interface Training {
  optimizer: OptimizerName;
  schedule: ScheduleName;
  ema: number;
  dtype: string;
  grad_checkpoint: boolean;
}

type Layers = Partial<GPTConfig>;

/** One of the values, the same in every run. */
function draw<T>(values: readonly T[], ...key: (string | number)[]): T {
  return values[Math.floor(uniform(keyOf("combinations", ...key), 0) * values.length)]!;
}

/** A value for every key at once, but for those that are given; those that can't go together are drawn again. */
function combination(index: number | string, given: Layers): { layers: Layers; training: Training } {
  for (let attempt = 0; ; attempt++) {
    const one = <T>(name: string, values: readonly T[]) => draw(values, index, attempt, name);
    const n_head = one("n_head", [1, 2, 4]);
    const layers = {
      architecture: one("architecture", ["decoder", "decoder", "encoder", "encoder_decoder"] as const),
      n_head,
      n_embd: n_head * one("D", [4, 6, 8, 16]),
      n_kv_head: one("n_kv_head", [0, 1, 2]),
      n_layer: one("n_layer", [1, 2]),
      attention: one("attention", NAMES.attention),
      attn_chunk: one("attn_chunk", [0, 3, 4]), // blocks of 1 make graphs of minutes; general_attention.test.ts has them
      block_size: 10,
      dropout: one("dropout", [0, 0.2]),
      bias: one("bias", [true, false]),
      ffn: one("ffn", NAMES.ffn),
      n_hidden: one("n_hidden", [0, 20]),
      ...{ n_expert: 4, n_expert_active: one("n_expert_active", [1, 2]), n_shared_hidden: one("shared", [0, 12]) },
      expert_capacity_factor: one("expert_capacity_factor", [0, 0.7]),
      pos: one("pos", NAMES.pos),
      rope_fraction: one("rope_fraction", [1, 0.5]),
      window: one("window", [0, 1, 4, 30]),
      attn_global: one("attn_global", [0, 2]),
      ...{ attn_stride: one("attn_stride", [0, 3]), attn_stride_from: one("attn_stride_from", NAMES.attn_stride_from) },
      attn_softcap: one("attn_softcap", [0, 3]),
      qk_norm: one("qk_norm", [true, false]),
      norm: one("norm", NAMES.norm),
      norm_position: one("norm_position", NAMES.norm_position),
      ...{ parallel_block: one("parallel_block", [true, false]), parallel_norms: one("parallel_norms", [1, 2]) },
      stochastic_depth: one("stochastic_depth", [0, 0.4]),
      tie_weights: one("tie_weights", [true, false]),
      logit_softcap: one("logit_softcap", [0, 5]),
      ...given,
    };
    const training = {
      optimizer: one("optimizer", OPTIMIZERS),
      schedule: one("schedule", SCHEDULES),
      ema: one("ema", [0, 0.9]),
      dtype: one("dtype", ["float32", "float32", "float16"]),
      grad_checkpoint: one("grad_checkpoint", [true, false]),
    };
    if (!findConflict({ ...LAYER_CHOICES, ...layers, ...training, ...RATES, gradient_accumulation_steps: 1 }))
      return { layers, training };
  }
}

/** What the formats of GPT-2 and Llama have no word for, as GPT-2 has it. */
const COMMON: Layers = {
  ...{ architecture: "decoder", norm_position: "pre", parallel_block: false, logit_softcap: 0, attn_softcap: 0 },
  ...{ attn_global: 0, attn_stride: 0 },
};
const GPT2: Layers = {
  ...COMMON,
  pos: "learned",
  norm: "layernorm",
  n_kv_head: 0,
  window: 0,
  qk_norm: false,
  n_hidden: 0,
};
const LLAMA: Layers = { ...COMMON, pos: "rotary", norm: "rmsnorm", rope_fraction: 1, bias: false };

const KINDS: { layers: Layers; count: number; isFolder?: boolean }[] = [
  { layers: {}, count: Number(process.env.COMBINATIONS ?? 16) },
  ...(["gelu", "relu2"] as const).map((ffn) => ({ layers: { ...GPT2, ffn }, count: 1, isFolder: true })),
  ...GATED.map((ffn) => ({ layers: { ...LLAMA, ffn }, count: 2, isFolder: true })),
];

// ---- training, as train.ts does it -------------------------------------------------------------------------------

const B = 2;
const OPTIONS = { beta1: 0.9, beta2: 0.99, weight_decay: 0.1, grad_clip: 1, momentum: 0.9 };
const RATES = { learning_rate: 1e-2, min_lr: 1e-3, warmup_iters: 1, lr_decay_iters: 4, decay_lr: true };

/** A model in training: `step` is one of train.ts' steps. */
async function train(model: GPT, { optimizer: name, schedule, ema, dtype, grad_checkpoint }: Training) {
  const { architecture, block_size: T, vocab_size } = model.config;
  const { inputs } = createObjective(architecture, { B, T, vocab_size, mask_fraction: GUESSED, pairs: undefined });
  const half = dtype === "float16";
  const step = await Step.create({
    ...{ engine: compiled, parameters: model.parameters, groups: model.decayGroups(), inputs },
    loss: ({ x, y, ...source }, rng) => model.loss(x, y, rng, source),
    optimizer: createOptimizer(name, OPTIONS),
    ...{ weight_decay: OPTIONS.weight_decay, grad_clip: OPTIONS.grad_clip, ema, half, recompute: grad_checkpoint },
  });
  return {
    state: step.state,
    dispose: () => step.dispose(),
    async step(iteration: number): Promise<void> {
      const learningRate = learningRateAt(iteration, { ...RATES, schedule });
      const batch = () => randomBatch(model, B, `batch ${iteration}`);
      const { loss, gradNorm } = await step.run({ iteration, learningRate, batch });
      assert.ok(Number.isFinite(loss));
      if (!half) assert.ok(gradNorm > 0 && Number.isFinite(gradNorm));
    },
  };
}

/** Two steps, and the same with a checkpoint in `folder` between them, resumed by a model of its settings: the same bits. */
async function trainAndResume(model: GPT, training: Training, folder: string): Promise<GPT> {
  const whole = await train(model, training);
  await whole.step(0);
  await save(folder, model, whole.state, 1);
  await whole.step(1);

  const opened = await openModel("resume", folder, { log: () => {}, average: false });
  const resumed = new GPT(opened.modelArgs);
  assert.deepEqual(resumed.config, model.config);
  await opened.read(resumed);
  const parts = await train(resumed, training);
  await parts.state.readRest(opened.tensors, opened.metadata!);
  opened.close();
  await parts.step(1);

  assert.deepEqual(parts.state.metadata(), whole.state.metadata());
  const [actual, expected] = [parts.state.tensors(), whole.state.tensors()];
  assert.deepEqual(
    actual.map(({ name }) => name),
    expected.map(({ name }) => name),
  );
  for (const [i, { name, data }] of actual.entries()) assertSameBits(data, expected[i]!.data, name);
  await save(folder, model, whole.state, 2);
  await Promise.all([whole.dispose(), parts.dispose()]);
  return resumed;
}

async function save(folder: string, model: GPT, state: TrainingState, iter: number): Promise<void> {
  const metadata = {
    ...{ config: {}, iter_num: iter, best_val_loss: null, rng: { seed: 1, iteration: iter }, tokenizer: null },
    ...state.metadata(),
    model_args: { ...model.config },
  };
  await saveCheckpoint(folder, metadata, state.tensors());
}

// ---- the tests ---------------------------------------------------------------------------------------------------

/** Logits of a model of two layers, in single precision. */
const compare = (actual: Float32Array, expected: Float32Array, label: string) =>
  assertClose(actual, expected, { atol: 1e-4, rtol: 1e-4, label });

for (const { layers: given, count, isFolder } of KINDS) {
  for (let i = 0; i < count; i++) {
    const { layers, training } = combination(isFolder ? `${given.ffn} ${i}` : i, given);
    const different = Object.entries({ ...layers, ...training }).filter(([key, value]) => {
      return LAYER_CHOICES[key as "pos"] !== value;
    });
    test(`combination ${i}: ${different.map(([key, value]) => `${key}=${value}`).join(" ")}`, async () => {
      const model = shaken(layers);
      // gradients of up to some 10, summed over 20 positions and two layers in single precision
      await assertEnginesAgree(model, B, { atol: 5e-5, rtol: 1e-3 });

      const folder = temporaryFolder();
      await trainAndResume(model, training, folder);
      const opened = await openModel(folder, "", { log: () => {} });
      const trained = new GPT(opened.modelArgs); // or the average of its steps
      await opened.read(trained);
      opened.close();

      if (trained.config.architecture === "encoder") await guess(trained);
      else await drawText(trained);
      await exportOnnx(trained, join(folder, "onnx"));
      await exportFolder(trained, join(folder, "hf"), isFolder);
    });
  }
}

/** With a cache as without, beyond block_size too. */
async function drawText(model: GPT): Promise<void> {
  const decoder = await createCachedDecoder(compiled, model);
  const tolerance = { atol: 1e-4, rtol: 1e-4 };
  await follow(decoder, createPlainDecoder(model), { prompt: [1, 2, 3], copies: 2, steps: 9, tolerance });
  await decoder.dispose();
}

const IDS = [1, 5, 2, 8, 3];

async function guess(model: GPT): Promise<void> {
  const [guesser, plain] = [await createGuesser(compiled, model, {}), await createGuesser(eager, model)];
  compare(await guesser.run(IDS), await plain.run(IDS), "guessed");
  await guesser.dispose();
}

/** ONNX holds all but encoder-decoders, in its own operators. */
async function exportOnnx(model: GPT, folder: string): Promise<void> {
  const { architecture, n_layer, n_head, n_kv_head, n_embd, vocab_size: V } = model.config;
  if (architecture === "encoder_decoder") {
    const refusal = { name: "UserError", message: /encoder_decoder is two/ };
    return assert.rejects(writeOnnx(model, undefined, folder), refusal);
  }
  mkdirSync(folder);
  await writeOnnx(model, undefined, folder, 2 ** 30);
  process.env.ORT_DISABLE_TELEMETRY = "1"; // before it is loaded
  const { InferenceSession, Tensor } = await import("onnxruntime-node"); // as another program would read the file
  const session = await InferenceSession.create(join(folder, "model.onnx"));
  const ids = (values: number[]) => new Tensor("int32", Int32Array.from(values), [1, values.length]);
  if (architecture === "encoder") {
    const { logits } = await session.run({ input_ids: ids(IDS) });
    compare(logits!.data as Float32Array, await (await createGuesser(eager, model)).run(IDS), "exported");
    return session.release();
  }
  const empty = () => new Tensor("float32", new Float32Array(), [1, n_kv_head || n_head, 0, n_embd / n_head]);
  const past = Array.from({ length: n_layer }, (_, i) => [`past.${i}.key`, `past.${i}.value`]).flat();
  let memory: Record<string, OrtTensor> = Object.fromEntries(past.map((name) => [name, empty()]));
  const known: number[] = [];
  for (const piece of [IDS, [7]]) {
    const { logits, ...present } = await session.run({ input_ids: ids(piece), ...memory });
    known.push(...piece);
    const last = (logits!.data as Float32Array).slice(-V);
    compare(last, await createPlainDecoder(model).start(known, 1), `exported, ${known.length} tokens`);
    memory = Object.fromEntries(past.map((name) => [name, present[name.replace("past", "present")] as OrtTensor]));
  }
  await session.release();
}

/** Those of the kinds of GPT-2 and Llama are read again from transformers' folder, with the same logits; others are refused. */
async function exportFolder(model: GPT, folder: string, must = false): Promise<void> {
  try {
    await writeHuggingFace(model, undefined, folder);
  } catch (error) {
    const { name, message } = error as Error;
    if (must || name !== "UserError") throw error;
    return assert.match(message, /^hf is for [^\n]*this model has [^\n]*; export it as --format=onnx$/);
  }
  const again = modelOf(openHF(folder));
  compare(
    await createPlainDecoder(again).start(IDS, 1),
    await createPlainDecoder(model).start(IDS, 1),
    "from a folder",
  );
}
