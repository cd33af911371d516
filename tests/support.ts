// What the tests of the engine, the layers and the model share: seeded numbers, a comparison that says where two arrays
// differ most, both engines, and a way to get a function's value and gradients from either.

import assert from "node:assert/strict";
import { keyOf, uniform } from "../lib/common/rng.ts";
import { sizeOf } from "../lib/common/shape.ts";
import { tf } from "../lib/common/tf.ts";
import type { Inputs, Shape } from "../lib/engine/graph.ts";
import {
  createEngine,
  type DropoutRng,
  type Engine,
  type RunOptions,
  type Variable,
} from "../lib/engine/runtime/program.ts";
import { Parameter } from "../lib/nn/parameter.ts";
import { type Metadata, saveCheckpoint } from "../lib/training/checkpoint.ts";
import { type Batch, createObjective } from "../lib/training/objective.ts";
import { GPT, type GPTConfig } from "../model.ts";

/** The two that have to agree: the plain one is the judge. */
export const compiled = await createEngine({ compile: true, threads: 2 });
export const eager = await createEngine({ compile: false });

export { sizeOf };

// ---- numbers that are the same in every run ----------------------------------------------------------------------

/** Uniform in [low, high); the numbers depend on the name alone. */
export function randomFloats(name: string, shape: Shape, low = -2, high = 2): Float32Array {
  const key = keyOf("test", name);
  return Float32Array.from({ length: sizeOf(shape) }, (_, i) => low + (high - low) * uniform(key, i));
}

/** Integers in [low, high). */
export function randomInts(name: string, shape: Shape, low: number, high: number): Int32Array {
  return Int32Array.from(randomFloats(name, shape, low, high).map(Math.floor));
}

export function randomVariable(name: string, shape: Shape, low = -2, high = 2): Parameter {
  const variable = new Parameter(name, shape, { constant: 0 });
  variable.data.set(randomFloats(name, shape, low, high));
  return variable;
}

// ---- comparisons -------------------------------------------------------------------------------------------------

interface Tolerance {
  atol: number;
  rtol?: number;
  label: string;
}

/** Every element within atol + rtol |expected|; the message shows the one that is furthest out. */
export function assertClose(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  { atol, rtol = 0, label }: Tolerance,
): void {
  assert.equal(actual.length, expected.length, `${label}: number of elements`);
  let worst = -1;
  let most = 0;
  for (let i = 0; i < expected.length; i++) {
    const [a, e] = [actual[i]!, expected[i]!];
    if (Object.is(a, e) || a === e) continue;
    const excess = Math.abs(a - e) - (atol + rtol * Math.abs(e));
    if (Number.isFinite(excess) && excess <= 0) continue;
    const badness = Number.isFinite(excess) ? excess : Number.POSITIVE_INFINITY;
    if (worst < 0 || badness > most) [worst, most] = [i, badness];
  }
  if (worst < 0) return;
  const [a, e] = [actual[worst]!, expected[worst]!];
  assert.fail(
    `${label}: element ${worst} of ${expected.length} is ${a}, should be ${e} ` +
      `(off by ${Math.abs(a - e)}; allowed ${atol} + ${rtol} * |expected|)`,
  );
}

/** The same bits in every element (0 is not -0). */
export function assertSameBits(actual: Float32Array, expected: Float32Array, label: string): void {
  const [a, e] = [actual, expected].map((x) => new Uint32Array(x.buffer, x.byteOffset, x.length)) as [
    Uint32Array,
    Uint32Array,
  ];
  assert.equal(a.length, e.length, `${label}: number of elements`);
  const at = a.findIndex((bits, i) => bits !== e[i]);
  assert.equal(at, -1, `${label}: element ${at} is ${actual[at]}, was ${expected[at]}`);
}

// ---- a function's value and gradients ----------------------------------------------------------------------------

/** Float arguments are weights, with a gradient; integer arguments are inputs, without. */
export interface Argument {
  shape: Shape;
  data: Float32Array | Int32Array;
}
export type Operation = (args: Inputs<tf.Tensor>, rng: DropoutRng) => tf.Tensor | tf.Tensor[];

export interface Evaluation {
  values: Float32Array; // of all results, one after the other, as float32
  types: string[]; // of the results
  grads: Float32Array[]; // of the float arguments
  kernels: Set<string>; // that were recorded, forward and backward; none in an eager run
}

/** Run an operation on an engine; then, for its gradients, a sum of its results with the weights `dy`, random ones if not
 * given (so that dy is not the same everywhere). */
export async function evaluate(
  engine: Engine,
  operation: Operation,
  args: readonly Argument[],
  { gradients = true, dropout, dy }: { gradients?: boolean; dropout?: number[]; dy?: Float32Array } = {},
): Promise<Evaluation> {
  const variables: Variable[] = [];
  const inputs: Record<string, { shape: Shape; dtype: "int32" }> = {};
  const given: Record<string, Int32Array> = {};
  args.forEach(({ shape, data }, i) => {
    if (data instanceof Int32Array) {
      inputs[`arg${i}`] = { shape, dtype: "int32" };
      given[`arg${i}`] = data;
    } else {
      const variable = new Parameter(`arg${i}`, shape, { constant: 0 });
      variable.data.set(data);
      variables.push(variable);
    }
  });
  let types: string[] = [];
  const apply = (tensors: Record<string, tf.Tensor>, rng: DropoutRng) => {
    let weight = 0;
    const all = args.map((_, i) => tensors[`arg${i}`] ?? variables[weight++]!.value);
    const results = [operation(all as Inputs<tf.Tensor>, rng)].flat();
    types = results.map(({ dtype }) => dtype);
    return tf.concat(results.map((result) => tf.cast(tf.reshape(result, [result.size]), "float32")));
  };
  const weightedSum = (tensors: Record<string, tf.Tensor>, rng: DropoutRng): tf.Tensor => {
    const results = apply(tensors, rng);
    return tf.sum(tf.mul(results, tf.tensor1d(dy ?? randomFloats("dy", results.shape, -1, 1))));
  };
  const options: RunOptions = dropout ? { dropout } : {};
  const forward = await engine.program(apply, { variables, inputs });
  const evaluation: Evaluation = {
    values: (await forward.run(given, options)).slice(),
    types,
    grads: [],
    kernels: new Set(forward.graph?.nodes.map(({ kernel }) => kernel)),
  };
  await forward.dispose();
  if (gradients && variables.length > 0) {
    const backward = await engine.program(weightedSum, { variables, inputs, gradients: true });
    await backward.run(given, options);
    evaluation.grads = variables.map(({ grad }) => grad!.slice());
    for (const { kernel } of backward.graph?.nodes ?? []) evaluation.kernels.add(kernel);
    await backward.dispose();
  }
  return evaluation;
}

/** Values and gradients of both evaluations agree. */
export function assertSameEvaluation(actual: Evaluation, expected: Evaluation, tolerance: Tolerance): void {
  const { label } = tolerance;
  assertClose(actual.values, expected.values, { ...tolerance, label: `${label}: value` });
  assert.equal(actual.grads.length, expected.grads.length);
  actual.grads.forEach((grad, i) => {
    assertClose(grad, expected.grads[i]!, { ...tolerance, label: `${label}: gradient of argument ${i}` });
  });
}

/** A fused layer equals, compiled and by its plain twin, plain tfjs operations with tfjs' own gradients. Returns the
 * compiled layer's evaluation. */
export async function assertLayer(
  layer: Operation,
  plain: Operation,
  args: readonly Argument[],
  tolerance: Tolerance,
): Promise<Evaluation> {
  const expected = await evaluate(eager, plain, args);
  const { label } = tolerance;
  assertSameEvaluation(await evaluate(eager, layer, args), expected, { ...tolerance, label: `${label}, eager` });
  const evaluation = await evaluate(compiled, layer, args);
  assertSameEvaluation(evaluation, expected, { ...tolerance, label: `${label}, compiled` });
  return evaluation;
}

export const floats = (name: string, shape: Shape, low = -2, high = 2): Argument => ({
  shape,
  data: randomFloats(name, shape, low, high),
});
export const ints = (name: string, shape: Shape, low: number, high: number): Argument => ({
  shape,
  data: randomInts(name, shape, low, high),
});

// ---- a small GPT -------------------------------------------------------------------------------------------------

/** A model of toy size with its random weights drawn. */
export function smallGPT(changes: Partial<GPTConfig> = {}): GPT {
  const toy = {
    block_size: 6,
    vocab_size: 11,
    n_layer: 2,
    n_head: 2,
    n_embd: 8,
    dropout: 0,
    bias: true,
    ffn: "gelu" as const,
  };
  return new GPT({ ...toy, ...changes }).initWeights(1);
}

/** Every weight random, also those that start at 0 or 1: there a wrong gradient of a bias or a scale hardly shows. */
export function shaken(changes: Partial<GPTConfig>): GPT {
  const model = smallGPT(changes);
  for (const { name, shape, data } of model.parameters) {
    const noise = randomVariable(name, shape, -0.4, 0.4).data;
    noise.forEach((number, i) => {
      data[i]! += number;
    });
  }
  return model;
}

export const GUESSED = 0.5; // of an encoder's tokens

/** Tokens and targets for a model. */
export function randomBatch(model: GPT, B: number, name = "batch"): Batch {
  const { block_size: T, vocab_size: V, architecture } = model.config;
  const ids = (name_: string, least = 0, length = T) => randomInts(`${name} ${name_}`, [B, length], least, V);
  const x = ids("x");
  if (architecture === "encoder") {
    const M = Math.max(1, Math.round(GUESSED * T));
    return { x, y: ids("y", 0, M), masked_positions: randomInts(`${name} guessed`, [B, M], 0, T) } as Batch;
  }
  if (!model.transformer.encoder) return { x, y: ids("y") } as Batch;
  const source_length = randomInts(`${name} length`, [B], 1, T + 1);
  return { x, y: ids("y", -1), source: ids("source"), source_length } as Batch; // -1: doesn't count
}

/** Save a model as a run of seven steps leaves it. */
export function saveModel(folder: string, { config: model, parameters }: GPT, about: Partial<Metadata> = {}) {
  const state = { iter_num: 7, best_val_loss: 1.5, optimizer_steps: 7, rng: { seed: 1, iteration: 7 } };
  return saveCheckpoint(
    folder,
    { model_args: { ...model }, config: {}, tokenizer: null, ...state, ...about },
    parameters,
  );
}

/** The model's loss with its gradients, as train.ts makes it. */
export function lossProgram(engine: Engine, model: GPT, B: number) {
  const { architecture, block_size: T, vocab_size } = model.config;
  const { inputs } = createObjective(architecture, { B, T, vocab_size, mask_fraction: GUESSED, pairs: undefined });
  const spec = { variables: model.parameters, inputs, gradients: true };
  return engine.program(({ x, y, ...source }, rng) => model.loss(x, y, rng, source), spec);
}

/** Loss and gradients in training, operation by operation and compiled, are the same. Returns the gradients of each weight. */
export async function assertEnginesAgree(model: GPT, B: number, tolerance: Omit<Tolerance, "label">) {
  const results: { loss: Float32Array; grads: Float32Array[] }[] = [];
  for (const engine of [eager, compiled]) {
    const program = await lossProgram(engine, model, B);
    const loss = (await program.run(randomBatch(model, B), { dropout: [1, 2] })).slice();
    results.push({ loss, grads: model.parameters.map(({ grad }) => grad!.slice()) });
    await program.dispose();
  }
  const [expected, actual] = results as [(typeof results)[number], (typeof results)[number]];
  assertClose(actual.loss, expected.loss, { ...tolerance, label: "loss" });
  for (const [i, { name }] of model.parameters.entries()) {
    assertClose(actual.grads[i]!, expected.grads[i]!, { ...tolerance, label: name });
  }
  return expected.grads;
}
