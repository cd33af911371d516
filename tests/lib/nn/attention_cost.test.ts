// What attention costs: numbers kept for the backward pass, and the size of what is made on the way.

import assert from "node:assert/strict";
import test from "node:test";

import { tf } from "../../../lib/common/tf.ts";

import { trace } from "../../../lib/engine/trace.ts";
import { causalAttention } from "../../../lib/nn/attention.ts";
import { compiled } from "../../support.ts";

test("what is kept for the backward pass grows with T, not with its square", async () => {
  const sizes = [256, 512].map((T) => {
    const graph = trace((input) => {
      const x = input("x", [1, T, 2], "float32") as tf.Tensor3D;
      const y = tf.grad((x) => tf.sum(causalAttention(x, x, x, 0, undefined, 32, false)))(x);
      return { y };
    });
    // values that the forward pass makes (before the loss is seeded with ones) and something after it reads
    const seed = graph.nodes.findIndex(({ kernel }, i) => kernel === "Concat" && i > 0);
    const forward = new Set(graph.nodes.slice(0, seed + 1).flatMap(({ outputs }) => outputs));
    const read = new Set(graph.nodes.slice(seed + 1).flatMap(({ inputs }) => inputs.filter((v) => forward.has(v))));
    return [...read].reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  });
  assert.ok(sizes[0]! > 0 && sizes[1]! <= 2 * sizes[0]!, `kept ${sizes} numbers at T = 256, 512`);
});

test("no T x T matrix is made", async () => {
  const shapes: number[][] = [];
  const program = await compiled.program(
    ({ x }) => causalAttention(x as tf.Tensor3D, x as tf.Tensor3D, x as tf.Tensor3D, 0, undefined, 4),
    { variables: [], inputs: { x: { shape: [1, 16, 2], dtype: "float32" } } },
  );
  for (const { outputs } of program.graph!.nodes) for (const { shape } of outputs) shapes.push([...shape]);
  await program.dispose();
  assert.ok(shapes.some((shape) => String(shape) === "1,4,16"));
  assert.ok(!shapes.some((shape) => String(shape.slice(-2)) === "16,16"));
});
