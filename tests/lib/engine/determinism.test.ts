// The same bits every time: kernels with duplicates or reductions, and a whole training step, 40 times on 2 threads and
// once on 1. It guards against kernels like ScatterND with reduction "add", which loses updates on 2 threads.

import assert from "node:assert/strict";
import test from "node:test";

import { tf } from "../../../lib/common/tf.ts";
import { createEngine, type Engine, type Program, type Variable } from "../../../lib/engine/runtime/program.ts";
import { crossEntropy } from "../../../lib/nn/cross_entropy.ts";
import { embedding } from "../../../lib/nn/embedding.ts";
import { layerNorm } from "../../../lib/nn/layer_norm.ts";
import { createObjective } from "../../../lib/training/objective.ts";
import { adamw } from "../../../lib/training/optimizers/adamw.ts";
import { Step } from "../../../lib/training/step.ts";
import {
  assertSameBits,
  compiled,
  lossProgram,
  randomBatch,
  randomInts,
  randomVariable,
  smallGPT,
} from "../../support.ts";

const RUNS = 40;
const single = await createEngine({ compile: true, threads: 1 });

interface Case {
  variables: Variable[];
  inputs?: Record<string, Int32Array>;
  body: (inputs: Record<string, tf.Tensor>, weights: tf.Tensor[]) => tf.Tensor;
}

/** Value and gradients of each of `runs` runs. */
async function bitsOf(engine: Engine, { variables, inputs = {}, body }: Case, runs: number): Promise<Float32Array[][]> {
  const specs = Object.fromEntries(
    Object.entries(inputs).map(([name, data]) => [name, { shape: [data.length], dtype: "int32" as const }]),
  );
  // squares: so that each gradient depends on the value
  const scalar = (tensors: Record<string, tf.Tensor>) =>
    tf.sum(
      tf.square(
        body(
          tensors,
          variables.map(({ value }) => value),
        ),
      ),
    );
  const plain = await engine.program(
    (tensors) =>
      body(
        tensors,
        variables.map(({ value }) => value),
      ),
    { variables, inputs: specs },
  );
  const backward = await engine.program(scalar, { variables, inputs: specs, gradients: true });
  const results: Float32Array[][] = [];
  for (let i = 0; i < runs; i++) {
    const value = (await plain.run(inputs)).slice();
    const total = (await backward.run(inputs)).slice();
    results.push([value, total, ...variables.map(({ grad }) => grad!.slice())]);
  }
  await plain.dispose();
  await backward.dispose();
  return results;
}

const ids = (count: number, rows: number) => ({ ids: randomInts(`ids ${rows}`, [count], 0, rows) });

// large enough that ONNX Runtime gives both threads work
const CASES: Record<string, () => Case> = {
  "embedding, 65 rows": () => ({
    variables: [randomVariable("table", [65, 48])],
    inputs: ids(2048, 65),
    body: ({ ids }, [table]) => embedding(table!, ids!),
  }),
  "embedding, 600 rows, of which 30 are hit": () => ({
    variables: [randomVariable("table", [600, 384])],
    inputs: ids(4096, 30),
    body: ({ ids }, [table]) => embedding(table!, ids!),
  }),
  "unsortedSegmentSum into 50": () => ({
    variables: [randomVariable("x", [4096, 32])],
    inputs: ids(4096, 50),
    body: ({ ids }, [x]) => tf.unsortedSegmentSum(x!, ids as tf.Tensor1D, 50),
  }),
  "unsortedSegmentSum into 700, many twice": () => ({
    variables: [randomVariable("x", [4096, 128])],
    inputs: ids(4096, 20),
    body: ({ ids }, [x]) => tf.unsortedSegmentSum(x!, ids as tf.Tensor1D, 700),
  }),
  "gather, with its gradient": () => ({
    variables: [randomVariable("table", [600, 64])],
    inputs: ids(2048, 10),
    body: ({ ids }, [table]) => tf.gather(table!, ids as tf.Tensor1D),
  }),
  softmax: () => ({ variables: [randomVariable("x", [512, 257])], body: (_, [x]) => tf.softmax(x!) }),
  "layer norm": () => ({
    variables: [randomVariable("x", [1024, 96]), randomVariable("weight", [96]), randomVariable("bias", [96])],
    body: (_, [x, weight, bias]) => layerNorm(x!, weight!, bias),
  }),
  "cross-entropy": () => ({
    variables: [randomVariable("logits", [512, 600])],
    inputs: { labels: randomInts("labels", [512], 0, 600) },
    body: ({ labels }, [logits]) => crossEntropy(logits!, labels!),
  }),
};
for (const axis of [0, 1, 2, undefined]) {
  CASES[`sum over axis ${axis}`] = () => ({
    variables: [randomVariable("x", [96, 64, 48])],
    body: (_, [x]) => tf.sum(x!, axis),
  });
}
for (const [ta, tb] of [
  [false, false],
  [true, false],
  [false, true],
  [true, true],
] as const) {
  CASES[`matMul ${ta} ${tb}`] = () => ({
    variables: [
      randomVariable("a", ta ? [3, 96, 64] : [3, 64, 96]),
      randomVariable("b", tb ? [3, 80, 96] : [3, 96, 80]),
    ],
    body: (_, [a, b]) => tf.matMul(a!, b!, ta, tb),
  });
}

for (const [name, make] of Object.entries(CASES)) {
  test(name, async () => {
    const [first, ...more] = await bitsOf(compiled, make(), RUNS);
    for (const [run, results] of more.entries()) {
      results.forEach((result, i) => {
        assertSameBits(result, first![i]!, `run ${run + 2}, result ${i}`);
      });
    }
    const [alone] = await bitsOf(single, make(), 1);
    alone!.forEach((result, i) => {
      assertSameBits(result, first![i]!, `1 thread, result ${i}`);
    });
  });
}

test("a GPT's training step with dropout: loss, gradients, and the weights after three updates", async () => {
  const train = async (engine: Engine, runs: number) => {
    const model = smallGPT({ block_size: 32, vocab_size: 600, n_embd: 32, n_head: 4, dropout: 0.2 });
    const batch = randomBatch(model, 8);
    const program: Program<"x" | "y"> = await lossProgram(engine, model, 8);
    const results: Float32Array[][] = [];
    for (let i = 0; i < runs; i++) {
      const value = (await program.run(batch, { dropout: [3, 1] })).slice();
      results.push([value, ...model.parameters.map(({ grad }) => grad!.slice())]);
    }
    const { inputs } = createObjective("decoder", { B: 8, T: 32, vocab_size: 600, mask_fraction: 0, pairs: undefined });
    const step = await Step.create({
      ...{ engine, parameters: model.parameters, groups: model.decayGroups(), inputs },
      loss: ({ x, y }, rng) => model.loss(x, y, rng),
      optimizer: adamw({ beta1: 0.9, beta2: 0.95 }),
      ...{ weight_decay: 0.1, grad_clip: 1, ema: 0.9, microSteps: 2, seed: 3 },
    });
    for (let iteration = 0; iteration < 3; iteration++) {
      await step.run({ iteration, learningRate: 1e-2, batch: () => batch });
    }
    await step.dispose();
    await program.dispose();
    return {
      results,
      weights: step.state.tensors().map(({ data }) => data),
      names: step.state.tensors().map(({ name }) => name),
    };
  };
  const both = await train(compiled, RUNS);
  const label = (i: number) => (i === 0 ? "loss" : both.names[i - 1]!);
  for (const results of both.results) {
    results.forEach((result, i) => {
      assertSameBits(result, both.results[0]![i]!, label(i));
    });
  }
  const one = await train(single, 1);
  one.results[0]!.forEach((result, i) => {
    assertSameBits(result, both.results[0]![i]!, `1 thread: ${label(i)}`);
  });
  one.weights.forEach((weights, i) => {
    assertSameBits(weights, both.weights[i]!, `1 thread, after three updates: ${both.names[i]}`);
  });
  assert.ok(both.results[0]![0]![0]! > 0);
});
