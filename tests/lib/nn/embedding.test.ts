// Embedding: the table's gradient, in both of its lowerings (up to 512 rows and above), against tfjs' own.

import assert from "node:assert/strict";
import test from "node:test";

import { tf } from "../../../lib/common/tf.ts";

import { embedding } from "../../../lib/nn/embedding.ts";
import { assertClose, assertLayer, compiled, eager, evaluate, floats, ints } from "../../support.ts";

for (const [V, shape, C] of [
  [1, [3], 4],
  [5, [1], 3],
  [11, [2, 9], 4], // more places than rows: duplicates
  [512, [4, 8], 3],
  [513, [4, 8], 3],
  [1500, [2, 3, 4], 5],
] as [number, number[], number][]) {
  test(`${V} rows, ids [${shape}]`, async () => {
    const args = [floats("table", [V, C]), ints("ids", shape, 0, Math.min(V, 9))];
    const { values, grads } = await assertLayer(
      ([table, ids]) => embedding(table, ids),
      ([table, ids]) => tf.reshape(tf.gather(table, ids as tf.Tensor1D), [...shape, C]),
      args,
      { atol: 2e-6, label: "embedding" }, // sums of up to 18 numbers below 1
    );
    assert.equal(values.length, args[1]!.data.length * C);
    const used = new Set(args[1]!.data);
    for (let row = 0; row < V; row++) {
      const gradient = grads[0]!.subarray(row * C, (row + 1) * C);
      if (used.has(row))
        assert.ok(
          gradient.some((g) => g !== 0),
          `row ${row} is used`,
        );
      else
        assert.ok(
          gradient.every((g) => g === 0),
          `row ${row} is not used`,
        );
    }
  });
}

test("the result is the rows themselves, bit for bit", async () => {
  for (const V of [6, 600]) {
    const table = floats("table", [V, 2]);
    const ids = { shape: [3], data: Int32Array.of(V - 1, 0, V - 1) };
    for (const engine of [compiled, eager]) {
      const { values } = await evaluate(engine, ([t, i]) => embedding(t, i), [table, ids]);
      const row = (at: number) => [...table.data.subarray(at * 2, at * 2 + 2)];
      assert.deepEqual([...values], [...row(V - 1), ...row(0), ...row(V - 1)]);
    }
  }
});

test("a table used twice, as the output layer too, gets both gradients", async () => {
  for (const V of [7, 600]) {
    const args = [floats("table", [V, 4]), ints("ids", [5], 0, V)];
    const twice = (lookup: (table: tf.Tensor, ids: tf.Tensor) => tf.Tensor) => (all: tf.Tensor[]) =>
      tf.matMul(lookup(all[0]!, all[1]!), all[0]!, false, true);
    const expected = await evaluate(
      eager,
      twice((table, ids) => tf.gather(table, ids as tf.Tensor1D)),
      args,
    );
    const actual = await evaluate(compiled, twice(embedding), args);
    assertClose(actual.grads[0]!, expected.grads[0]!, { atol: 2e-5, rtol: 1e-5, label: `${V} rows` });
  }
});
