// What attention with a window costs: numbers kept for the backward pass, and that no key far away is looked at.

import assert from "node:assert/strict";
import test from "node:test";

import { tf } from "../../../lib/common/tf.ts";

import type { Graph, Node, Value } from "../../../lib/engine/graph.ts";
import { trace } from "../../../lib/engine/trace.ts";
import { causalAttention } from "../../../lib/nn/attention.ts";
import { type AttentionChoices, generalAttention, type Pattern } from "../../../lib/nn/general_attention.ts";
import { Alibi } from "../../../lib/nn/position.ts";
import { sizeOf } from "../../support.ts";

const BLOCK = 32;
const [H, D] = [2, 3];

/** The graph of the gradient by queries, keys and values that are the same. */
function gradientGraph(T: number, attend: (x: tf.Tensor) => tf.Tensor): Graph {
  return trace((input) => {
    const x = input("x", [1, H, T, D], "float32");
    const sum = (x: tf.Tensor) => tf.sum(tf.square(attend(x)));
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

const general =
  (pattern: Pattern, again = false, bias?: AttentionChoices["bias"]) =>
  (x: tf.Tensor) =>
    generalAttention(x, x, x, { pattern, softcap: 0, bias }, 0, undefined, BLOCK, !again);

const WINDOW: Pattern = { causal: true, window: 16, global: 0, stride: 0, strideFrom: "start" };

test("with a window what is kept grows with T, without one with its square", () => {
  const grows = (pattern: Pattern) =>
    kept(gradientGraph(512, general(pattern))) / kept(gradientGraph(256, general(pattern)));
  // the first block has fewer keys: a little more than twice
  assert.ok(Math.abs(grows(WINDOW) - 2) < 0.1, `with a window times ${grows(WINDOW)}`);
  const all = grows({ ...WINDOW, window: 0 });
  assert.ok(all > 3, `without one times ${all}`);
});

test("a block has scores with the keys of its windows and the global ones, and no others", () => {
  const widths = new Set<number>();
  for (const { kernel, outputs } of gradientGraph(256, general({ ...WINDOW, global: 4 })).nodes) {
    if (kernel === "Softmax") widths.add(outputs[0]!.shape[3]!);
  }
  // the first block's own keys; then with them the 15 before, and the global 4
  assert.deepEqual([...widths], [BLOCK, BLOCK + 15 + 4]);
});

const ALL: Pattern = { ...WINDOW, window: 0 };
const alibi = new Alibi(undefined as never, { n_head: H } as never);

const plain = (x: tf.Tensor) => {
  const heads = tf.reshape(x, [H, -1, D]);
  return causalAttention(heads, heads, heads, 0, undefined, BLOCK, false);
};

for (const [what, attend] of Object.entries({
  plain,
  "the general form": general(ALL, true),
  ALiBi: general(ALL, true, (distance) => alibi.bias(distance)),
})) {
  test(`made again, ${what}: what is kept grows with T, block after block is taken, of few widths`, () => {
    const [small, large] = [256, 1024].map((T) => gradientGraph(T, attend)) as [Graph, Graph];
    assert.ok(kept(small) > 0);
    assert.equal(kept(large), 4 * kept(small));

    const softmaxes = large.nodes.filter(({ kernel }) => kernel === "Softmax");
    const count = 1024 / BLOCK;
    assert.equal(softmaxes.length, 2 * count); // forward, and again
    const again = softmaxes.slice(count);
    for (const [i, node] of again.entries()) {
      // all of the block before is there: its weights, and what it adds to the gradient of keys
      if (i > 0) assert.ok(needs(large, node).has(again[i - 1]!), `block ${i} doesn't wait for the one before`);
    }
    const widths = new Set(softmaxes.map(({ outputs }) => outputs[0]!.shape.at(-1)!));
    assert.deepEqual(
      [...widths].sort((a, b) => a - b),
      [128, 256, 384, 512, 640, 768, 896, 1024],
    );
  });
}

/** All nodes that a node needs the results of, directly or not. */
function needs({ nodes }: Graph, node: Node): Set<Node> {
  const makers = new Map<Value, Node>(nodes.flatMap((maker) => maker.outputs.map((value) => [value, maker])));
  const found = new Set<Node>();
  const waiting = [node];
  for (let next = waiting.pop(); next; next = waiting.pop()) {
    for (const value of next.inputs) {
      const maker = makers.get(value);
      if (!maker || found.has(maker)) continue;
      found.add(maker);
      waiting.push(maker);
    }
  }
  return found;
}
