// model.ts' formulas and the kernels that run in their place: equal, in values and gradients, on both engines; and a formula that was
// edited is found out.

import assert from "node:assert/strict";
import { test } from "node:test";

import { tf } from "../../../lib/common/tf.ts";

import { geluKernels } from "../../../lib/nn/activation.ts";
import { LAYER_CHOICES } from "../../../lib/nn/choices.ts";
import type { DropoutRng } from "../../../lib/nn/dropout.ts";
import { computesTheSame, fast, type Kernel } from "../../../lib/nn/fast.ts";
import { layerNormKernel } from "../../../lib/nn/layer_norm.ts";
import { HIDDEN } from "../../../lib/nn/mask.ts";
import { MultiHead } from "../../../lib/nn/multi_head.ts";
import type { AttentionFormula } from "../../../lib/nn/textbook.ts";
import { attentionDropout } from "../../../lib/nn/weight_dropout.ts";
import { attention, gelu, geluTanh, layerNorm } from "../../../model.ts";
import { assertSameEvaluation, compiled, eager, evaluate, floats, type Operation } from "../../support.ts";

const head = (config: object) =>
  new MultiHead(attention, { ...LAYER_CHOICES, ...SIZES, dropout: 0.3, ...config } as ConstructorParameters<
    typeof MultiHead
  >[1]);
const SIZES = { n_layer: 1, n_head: 2, n_embd: 10, block_size: 9, vocab_size: 3, bias: true, ffn: "gelu" as const };
const QKV = ["query", "key", "value"].map((name) => floats(name, [2, 9, 10]));
const heads =
  (config: object): Operation =>
  ([query, key, value], rng) =>
    head(config).forward(query!, key!, value!, { rng });

const ROWS = [floats("x", [3, 5, 8]), floats("weight", [8]), floats("bias", [8])];
const PAIRS: Record<string, [kernel: Operation, formula: Operation, args: typeof ROWS]> = {
  gelu: [([x]) => fast(geluKernels.gelu, gelu)(x!), ([x]) => gelu(x!), ROWS.slice(0, 1)],
  gelu_tanh: [([x]) => fast(geluKernels.gelu_tanh, geluTanh)(x!), ([x]) => geluTanh(x!), ROWS.slice(0, 1)],
  "layer norm": [([x, w, b]) => fast(layerNormKernel, layerNorm)(x!, w!, b), ([x, w, b]) => layerNorm(x!, w!, b), ROWS],
  "layer norm without bias": [
    ([x, w]) => fast(layerNormKernel, layerNorm)(x!, w!),
    ([x, w]) => layerNorm(x!, w!),
    ROWS.slice(0, 2),
  ],
  "attention in blocks": [heads({ attn_chunk: 4 }), heads({ attention: "dense" }), QKV],
  "attention that computes its weights again": [
    heads({ attention: "recompute", attn_chunk: 2 }),
    heads({ attention: "dense" }),
    QKV,
  ],
};
for (const [name, [kernel, formula, args]] of Object.entries(PAIRS)) {
  test(`${name}: kernel and formula, values and gradients, compiled and not`, async () => {
    const expected = await evaluate(eager, formula, args, { dropout: [1] });
    for (const [engine, operation, label] of [
      [eager, kernel, "kernel, eager"],
      [compiled, kernel, "kernel, compiled"],
      [compiled, formula, "formula, compiled"],
    ] as const) {
      const actual = await evaluate(engine, operation, args, { dropout: [1] });
      // sums of some ten products of numbers up to 2, in single precision
      assertSameEvaluation(actual, expected, { atol: 2e-5, rtol: 2e-5, label });
    }
  });
}

/** model.ts' attention with what an edit may change. */
const edited =
  (changes: {
    scale?: (D: number) => number;
    cap?: number;
    window?: number;
    keep?: (weights: tf.Tensor, rate: number, rng?: DropoutRng) => tf.Tensor;
  }): AttentionFormula =>
  (query, key, value, at, from, rate = 0, rng) => {
    const {
      scale = (D) => 1 / Math.sqrt(D),
      cap = 0,
      window = Number.POSITIVE_INFINITY,
      keep = attentionDropout,
    } = changes;
    let scores = tf.matMul(tf.mul(query, scale(query.shape[3]!)), key, false, true);
    if (cap > 0) scores = tf.mul(tf.tanh(tf.div(scores, cap)), cap);
    const distance = tf.sub(tf.expandDims(at, 1), from);
    const hidden = tf.logicalOr(tf.less(distance, 0), tf.greaterEqual(distance, window));
    const weights = tf.softmax(tf.add(scores, tf.mul(tf.cast(hidden, "float32"), HIDDEN)));
    return tf.matMul(keep(weights, rate, rng), value);
  };

const isFast = (formula: AttentionFormula, block_size = 64) =>
  new MultiHead(formula, { ...LAYER_CHOICES, ...SIZES, dropout: 0.3, block_size }).isFast;

test("an attention that was edited is found out, one that is only written in another way is not", () => {
  assert.ok(isFast(edited({})));
  assert.ok(isFast(edited({ scale: (D) => D ** -0.5, cap: 1e6 }))); // above every score
  const EDITS = {
    "another scale": edited({ scale: (D) => 1 / D }),
    "a constant scale, right for one size of heads": edited({ scale: () => 1 / Math.sqrt(5) }),
    "a cap": edited({ cap: 20 }),
    "a window": edited({ window: 32 }),
    "no dropout": edited({ keep: (weights) => weights }),
    "dropout of all queries alike": edited({ keep: (w, rate, rng) => (rng ? tf.mul(w, 1 / (1 - rate)) : w) }),
  };
  for (const [name, formula] of Object.entries(EDITS)) assert.ok(!isFast(formula), name);
});

test("a window longer than the context is none, and a shorter one shows however long the context is", () => {
  assert.ok(isFast(edited({ window: 64 }), 64));
  assert.ok(!isFast(edited({ window: 64 }), 4096));
});

test("other norms and activations are found out", () => {
  const other = (changed: typeof layerNorm) => fast(layerNormKernel, changed) === changed;
  assert.ok(
    other((x, w, b) => layerNorm(x, w, b, 1e-6)),
    "another epsilon",
  );
  assert.ok(
    other((x, w, _, epsilon) => layerNorm(x, w, undefined, epsilon)),
    "no bias",
  );
  assert.equal(fast(geluKernels.gelu, geluTanh), geluTanh);
  assert.equal(fast(geluKernels.gelu_tanh, gelu), gelu);
});

test("it says so once, compares once, and leaves backend and tensors as they were", async () => {
  let runs = 0;
  const kernel: Kernel<typeof gelu> = { ...geluKernels.gelu, name: "counted" };
  const formula = (x: tf.Tensor) => {
    runs++;
    return tf.relu(x);
  };
  const lines: string[] = [];
  const { error } = console;
  console.error = (line: string) => lines.push(line);
  try {
    const [backend, { numTensors }] = [tf.getBackend(), tf.memory()];
    assert.equal(computesTheSame(kernel, formula), false);
    const first = runs;
    assert.equal(computesTheSame(kernel, formula), false);
    assert.equal(computesTheSame(geluKernels.gelu, formula), false); // another kernel, the same formula
    assert.ok(first > 0);
    assert.equal(runs, 2 * first);
    assert.equal(tf.getBackend(), backend);
    assert.equal(tf.memory().numTensors, numTensors);
  } finally {
    console.error = error;
  }
  assert.deepEqual(lines, [
    "formula is not GPT-2's any more: the formula runs as it is written, in training, sampling and export",
  ]);
});
