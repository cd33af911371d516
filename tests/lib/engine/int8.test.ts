// Matrices in 8 bits: how near their numbers are, and that products and look-ups with them are those of the rounded ones.

import assert from "node:assert/strict";
import test from "node:test";

import { tf } from "../../../lib/common/tf.ts";
import { int8Form, quantize } from "../../../lib/engine/int8.ts";
import { FrozenProgram } from "../../../lib/engine/runtime/frozen.ts";
import { bind } from "../../../lib/engine/runtime/session.ts";
import { trace } from "../../../lib/engine/trace.ts";
import type { Parameter } from "../../../lib/nn/parameter.ts";
import { assertClose, randomFloats, randomInts, randomVariable } from "../../support.ts";

/** The numbers that the 8-bit form stands for, [rows, columns]. */
function restore(data: Float32Array, rows: number, columns: number, transposed: boolean): Float32Array {
  const { values, scales, block } = quantize(data, rows, columns, transposed);
  const blocks = Math.ceil(columns / block);
  return Float32Array.from({ length: rows * columns }, (_, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns];
    const [at, inside] = [row * blocks + Math.floor(column / block), column % block];
    return (values[at * block + inside]! - 128) * scales[at]!;
  });
}

test("every number is within half a step of its block's scale, in both orientations", () => {
  const [rows, columns] = [5, 150]; // not whole blocks
  const data = randomFloats("matrix", [rows, columns], -3, 3);
  data.fill(0, 0, 64); // a block of zeros
  const flipped = Float32Array.from(
    { length: rows * columns },
    (_, i) => data[(i % rows) * columns + Math.floor(i / rows)]!,
  );
  const restored = restore(data, rows, columns, false);
  assert.deepEqual(restore(flipped, rows, columns, true), restored);
  for (const [i, number] of data.entries()) {
    assert.ok(Math.abs(restored[i]! - number) <= 3 / 127 / 2 + 1e-6, `${restored[i]} for ${number}`);
  }
});

const FORMS: [string, (w: tf.Tensor, x: tf.Tensor, ids: tf.Tensor) => tf.Tensor, boolean | undefined][] = [
  ["a product", (w, x) => tf.matMul(x as tf.Tensor2D, w as tf.Tensor2D), true],
  ["a product with the transpose", (w, x) => tf.matMul(x as tf.Tensor2D, w as tf.Tensor2D, false, true), false],
  ["a look-up", (w, _, ids) => tf.gather(w, ids as tf.Tensor1D), undefined],
  [
    "a look-up and a product with the transpose",
    (w, x, ids) =>
      tf.add(tf.matMul(x as tf.Tensor2D, w as tf.Tensor2D, false, true), tf.sum(tf.gather(w, ids as tf.Tensor1D))),
    false,
  ],
  [
    "a look-up and a product",
    (w, x, ids) => tf.add(tf.matMul(x as tf.Tensor2D, w as tf.Tensor2D), tf.sum(tf.gather(w, ids as tf.Tensor1D))),
    undefined,
  ],
  ["the first factor", (w, x) => tf.matMul(w as tf.Tensor2D, x as tf.Tensor2D), undefined],
  ["an addition", (w, x) => tf.add(w, x), undefined],
];

for (const [name, body, transposed] of FORMS) {
  test(`${name}: ${transposed === undefined ? "stays float32" : "takes 8 bits"}, and gives what the rounded matrix gives`, async () => {
    const C = 96; // one block and a half
    const weight = randomVariable(`int8 ${name}`, [C, C], -1, 1) as Parameter;
    const x = randomFloats("x", [C, C], -1, 1);
    const ids = randomInts("ids", [3], 0, C);
    const run = (w: tf.Tensor, input: (name: string) => tf.Tensor) => body(w, input("x"), input("ids"));
    const graph = trace((input) => ({
      y: run(input("w", [C, C], "float32"), (name) =>
        name === "x" ? input("x", [C, C], "float32") : input("ids", [3], "int32"),
      ),
    }));
    assert.equal(int8Form(graph, graph.inputs.get("w")!)?.transposed, transposed);

    const frozen = await FrozenProgram.create(
      (_, input) => ({
        y: run(weight.value, (name) => (name === "x" ? input("x", [C, C], "float32") : input("ids", [3], "int32"))),
      }),
      { weights: [weight], sizes: [], int8: true },
      { threads: 2 },
    );
    // rows as the kernel has them, back in the order of the function
    const rounded = transposed === undefined ? weight.data : restore(weight.data, C, C, transposed);
    const matrix = tf.tensor2d(rounded, [C, C]);
    const expected = run(transposed ? tf.transpose(matrix) : matrix, (name) =>
      name === "x" ? tf.tensor2d(x, [C, C]) : tf.tensor1d(ids),
    );
    const y = new Float32Array(expected.size);
    await frozen.run(
      bind({ x: { data: x, shape: [C, C], dtype: "float32" }, ids: { data: ids, shape: [3], dtype: "int32" } }),
      bind({ y: { data: y, shape: expected.shape, dtype: "float32" } }),
    );
    await frozen.dispose();
    // the other factor is rounded to 8 bits too: of 96 products of up to 1, each off by 1/254 at most, some 0.02 remain
    assertClose(y, expected.dataSync(), {
      atol: transposed === undefined || !name.includes("product") ? 1e-4 : 0.06,
      label: name,
    });
  });
}
