// Causal attention in blocks, of every size, against the plain softmax over a masked T x T matrix.

import assert from "node:assert/strict";
import test from "node:test";

import { tf } from "../../../lib/common/tf.ts";

import { causalAttention } from "../../../lib/nn/attention.ts";
import { chooseWeights, dropWeights } from "../../../lib/nn/weight_dropout.ts";
import { assertLayer, assertSameEvaluation, compiled, eager, evaluate, floats, type Operation } from "../../support.ts";

/** Sums of up to 40 products in single precision. */
const TOLERANCE = { atol: 5e-6, rtol: 1e-5 };

type Three = [tf.Tensor3D, tf.Tensor3D, tf.Tensor3D];

/** The whole matrix, with the future at minus a lot; `keep` is what dropout leaves of the weights. */
function plain(tensors: tf.Tensor[], keep?: tf.Tensor): tf.Tensor {
  const [query, key, value] = tensors as Three;
  const [, T, D] = query.shape;
  const scores = tf.div(tf.matMul(query, key, false, true), Math.sqrt(D));
  const past = tf.linalg.bandPart(tf.ones([T, T]), -1, 0);
  const weights = tf.softmax(tf.add(scores, tf.mul(tf.sub(1, past), -1e9)));
  return tf.matMul((keep ? tf.mul(weights, keep) : weights) as tf.Tensor3D, value);
}

const attention =
  (block?: number): Operation =>
  (tensors) =>
    causalAttention(...(tensors as unknown as Three), 0, undefined, block);

const threes = (shape: number[]) => [floats("query", shape), floats("key", shape), floats("value", shape)];

for (const [N, T, D] of [
  [1, 1, 1],
  [2, 2, 3],
  [3, 7, 4],
  [2, 12, 2],
] as const) {
  for (const block of [1, 3, T, T + 5, undefined]) {
    test(`[${N}, ${T}, ${D}] in blocks of ${block}`, async () => {
      const label = `block ${block}`;
      await assertLayer(attention(block), (tensors) => plain(tensors), threes([N, T, D]), { ...TOLERANCE, label });
    });
  }
}

test("the usual block: longer than one, not a multiple of it", async () => {
  const args = threes([1, 150, 2]);
  const expected = await evaluate(eager, (tensors) => plain(tensors), args);
  const whole = await evaluate(compiled, attention(), args);
  assertSameEvaluation(whole, expected, { atol: 2e-5, rtol: 1e-5, label: "T = 150" });
});

for (const keepWeights of [true, false]) {
  test(`weights ${keepWeights ? "kept" : "made again"} for the backward pass, with and without dropout`, async () => {
    const args = threes([2, 11, 3]);
    const expected = await evaluate(eager, (tensors) => plain(tensors), args);
    const run = (tensors: tf.Tensor[]) =>
      causalAttention(...(tensors as unknown as Three), 0, undefined, 4, keepWeights);
    for (const engine of [compiled, eager]) {
      assertSameEvaluation(await evaluate(engine, run, args), expected, { ...TOLERANCE, label: `keep ${keepWeights}` });
    }
    const dropped =
      (block: number, keep: boolean): Operation =>
      (tensors, mask) =>
        causalAttention(...(tensors as unknown as Three), 0.3, mask, block, keep);
    const options = { dropout: [6] };
    const kept = await evaluate(eager, dropped(11, true), args, options);
    const again = await evaluate(compiled, dropped(4, keepWeights), args, options);
    assertSameEvaluation(again, kept, { ...TOLERANCE, label: `dropout, keep ${keepWeights}` });
  });
}

test("more blocks than widths: keys behind a block's own are looked at and have no weight", async () => {
  const args = threes([2, 41, 3]);
  const expected = await evaluate(eager, (tensors) => plain(tensors), args);
  const again: Operation = (tensors) => causalAttention(...(tensors as unknown as Three), 0, undefined, 3, false);
  for (const engine of [compiled, eager]) {
    assertSameEvaluation(await evaluate(engine, again, args), expected, { ...TOLERANCE, label: "T = 41 by 3" });
  }
});

test("the future has exactly no influence, on values and on gradients", async () => {
  const [T, D] = [9, 3];
  for (const block of [1, 4, T]) {
    for (const engine of [compiled, eager]) {
      for (let at = 0; at < T - 1; at++) {
        // values: change everything after `at`
        const args = threes([1, T, D]);
        const changed = args.map(({ shape, data }, i) => {
          const other = floats(`other ${i}`, shape, -50, 50).data;
          return { shape, data: Float32Array.from(data, (number, j) => (j < (at + 1) * D ? number : other[j]!)) };
        });
        const head: Operation = (tensors, mask) =>
          tf.slice(attention(block)(tensors as Three, mask) as tf.Tensor3D, [0, 0, 0], [-1, at + 1, -1]);
        const before = await evaluate(engine, head, args, { gradients: at === 4 });
        const after = await evaluate(engine, head, changed, { gradients: false });
        assert.deepEqual(after.values, before.values, `block ${block}, positions up to ${at}`);
        for (const gradient of before.grads) {
          assert.ok(
            gradient.subarray((at + 1) * D).every((g) => g === 0),
            `gradient at later positions, block ${block}`,
          );
        }
      }
    }
  }
});

test("scores in the thousands stay finite", async () => {
  const shape = [1, 6, 4];
  const args = [floats("query", shape, -90, 90), floats("key", shape, -90, 90), floats("value", shape)];
  for (const engine of [compiled, eager]) {
    const { values, grads } = await evaluate(engine, attention(2), args);
    assert.ok(values.every(Number.isFinite) && grads.every((grad) => grad.every(Number.isFinite)));
  }
});

test("with dropout: the same weights are dropped in blocks of any size, and the gradient with them", async () => {
  const [N, T, D, rate] = [2, 41, 3, 0.4];
  const run =
    (block: number, keepWeights?: boolean): Operation =>
    (tensors, mask) =>
      causalAttention(...(tensors as unknown as Three), rate, mask, block, keepWeights);
  const reference: Operation = (tensors, mask) => {
    const ones = tf.ones([N, T, T]);
    return plain(tensors, dropWeights(ones, chooseWeights(rate, mask, tensors[0]!, tensors[1]!)));
  };
  const args = threes([N, T, D]);
  const options = { dropout: [9] };
  const expected = await evaluate(eager, reference, args, options);
  for (const [block, keep] of [[1], [3], [3, false], [T]] as [number, boolean?][]) {
    for (const engine of [compiled, eager]) {
      const actual = await evaluate(engine, run(block, keep), args, options);
      assertSameEvaluation(actual, expected, { ...TOLERANCE, label: `block ${block}` });
    }
  }
  const without = await evaluate(compiled, attention(3), args);
  assert.notDeepEqual(without.values, expected.values);
});
