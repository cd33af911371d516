// Sums of ranges of rows, and a value that waits for others.

import assert from "node:assert/strict";
import { test } from "node:test";

import { tf } from "../../../lib/common/tf.ts";

import { controlDependency, RowSums } from "../../../lib/nn/in_order.ts";
import { compiled, eager, evaluate, floats, randomFloats } from "../../support.ts";

test("after: the values of x, whatever it waits for, and recorded as depending on it", async () => {
  const args = [floats("x", [2, 3]), floats("y", [4]), floats("z", [])];
  const wait = ([x, y, z]: tf.Tensor[]) => controlDependency(x!, [tf.square(y!), z!]);
  for (const engine of [eager, compiled]) {
    const { values, kernels } = await evaluate(engine, wait, args, { gradients: false });
    assert.deepEqual(values, args[0]!.data);
    assert.equal(kernels.has("Square"), engine === compiled);
  }
});

// from a row to below another
for (const [what, text] of Object.entries({
  "one range": "0-6",
  "all from the first row on": "0-6 0-6 0-4 0-1",
  windows: "4-6 2-5 1-3 0-2",
  "side by side": "4-6 2-4 0-2",
  "with gaps, and rows before and behind": "6-7 2-4 1-4",
})) {
  const ranges = text.split(" ").map((range) => range.split("-").map(Number) as [number, number]);
  test(`sums of rows: ${what}`, () => {
    const [N, C] = [8, 2];
    const expected = new Float32Array(N * C);
    const sums = new RowSums(1);
    for (const [i, [from, end]] of ranges.entries()) {
      const part = randomFloats(`${what} ${i}`, [1, end - from, C]);
      part.forEach((number, j) => {
        expected[from * C + j]! += number;
      });
      sums.add(tf.tensor(part, [1, end - from, C]), from, end);
    }
    assert.deepEqual(sums.total(N).dataSync(), expected);
  });
}
