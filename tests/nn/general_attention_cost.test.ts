// What attention with a window costs: numbers kept for the backward pass, and that no key far away is looked at.

import assert from "node:assert/strict";
import test from "node:test";

import * as tf from "@tensorflow/tfjs";

import type { Graph } from "../../engine/graph.ts";
import { trace } from "../../engine/trace.ts";
import { generalAttention, type Pattern } from "../../nn/general_attention.ts";
import { sizeOf } from "../support.ts";

const BLOCK = 32;
const [H, D] = [2, 3];

/** The graph of the gradient by queries, keys and values that are the same. */
function gradientGraph(T: number, pattern: Pattern): Graph {
  return trace((input) => {
    const x = input("x", [1, H, T, D], "float32");
    const choices = { pattern, softcap: 0 };
    const sum = (x: tf.Tensor) => tf.sum(generalAttention(x, x, x, choices, 0, undefined, BLOCK));
    const { value, grad } = tf.valueAndGrad(sum)(x);
    return { value, grad };
  });
}

/** Numbers that the forward pass makes and the backward pass reads. */
function kept({ nodes }: Graph): number {
  const sum = nodes.findIndex(({ outputs }) => outputs[0]!.shape.length === 0);
  assert.ok(sum > 0);
  const forward = new Set(nodes.slice(0, sum + 1).flatMap(({ outputs }) => outputs));
  const read = new Set(nodes.slice(sum + 1).flatMap(({ inputs }) => inputs.filter((value) => forward.has(value))));
  return [...read].reduce((sum, { shape }) => sum + sizeOf(shape), 0);
}

const WINDOW: Pattern = { causal: true, window: 16, global: 0, stride: 0 };

test("with a window what is kept grows with T, without one with its square", () => {
  const grows = (pattern: Pattern) => kept(gradientGraph(512, pattern)) / kept(gradientGraph(256, pattern));
  // the first block has fewer keys: a little more than twice
  assert.ok(Math.abs(grows(WINDOW) - 2) < 0.1, `with a window times ${grows(WINDOW)}`);
  const all = grows({ ...WINDOW, window: 0 });
  assert.ok(all > 3, `without one times ${all}`);
});

test("a block has scores with the keys of its windows and the global ones, and no others", () => {
  const widths = new Set<number>();
  for (const { kernel, outputs } of gradientGraph(256, { ...WINDOW, global: 4 }).nodes) {
    if (kernel === "Softmax") widths.add(outputs[0]!.shape[3]!);
  }
  // the first block's own keys; then with them the 15 before, and the global 4
  assert.deepEqual([...widths], [BLOCK, BLOCK + 15 + 4]);
});
