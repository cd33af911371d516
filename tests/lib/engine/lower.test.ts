// Models made of graphs: they load and run, whatever the outputs are, and constants take little room.

import assert from "node:assert/strict";
import test from "node:test";

import { tf } from "../../../lib/common/tf.ts";

import { ARRAYS, type Graph, type TypedArray } from "../../../lib/engine/graph.ts";
import { lower } from "../../../lib/engine/lower.ts";
import { type Buffer, bind, Session } from "../../../lib/engine/runtime/session.ts";
import { type DeclareInput, trace } from "../../../lib/engine/trace.ts";
import { sizeOf } from "../../support.ts";

/** Run a graph's model; the float inputs count up from 1. */
async function outputsOf(graph: Graph): Promise<Record<string, number[]>> {
  const inputs: Record<string, Buffer> = {};
  for (const [name, { shape, dtype }] of graph.inputs) {
    inputs[name] = { data: Float32Array.from({ length: sizeOf(shape) }, (_, i) => i + 1), shape, dtype };
  }
  const outputs: Record<string, Buffer> = {};
  for (const [name, { shape, dtype }] of graph.outputs) {
    const data: TypedArray = new ARRAYS[dtype](sizeOf(shape));
    outputs[name] = { data, shape, dtype };
  }
  const session = await Session.create(lower(graph), { threads: 1 });
  await session.run(bind(inputs), bind(outputs));
  await session.dispose();
  return Object.fromEntries(Object.entries(outputs).map(([name, { data }]) => [name, [...data]]));
}

const run = (body: (input: DeclareInput) => Record<string, tf.Tensor>) => outputsOf(trace(body));

test("a lowered model loads and computes", async () => {
  assert.deepEqual(await run((input) => ({ y: tf.mul(input("x", [3], "float32"), 2) })), { y: [2, 4, 6] });
});

test("outputs of all types", async () => {
  const outputs = await run((input) => {
    const x = input("x", [3], "float32");
    return { f: tf.neg(x), i: tf.cast(x, "int32"), b: tf.greater(x, 1.5) };
  });
  assert.deepEqual(outputs, { f: [-1, -2, -3], i: [1, 2, 3], b: [0, 1, 1] });
});

test("an output may be an input, a constant, or a value that has an output's name already", async () => {
  const outputs = await run((input) => {
    const x = input("x", [3], "float32");
    const y = tf.neg(x);
    const large = tf.fill([100], 3); // made by a node, not stored
    return {
      y,
      same: y,
      again: y,
      input: x,
      twice: x,
      constant: tf.tensor1d([5, 6]),
      large,
      next: tf.exp(tf.mul(y, 0)),
    };
  });
  assert.deepEqual(outputs, {
    y: [-1, -2, -3],
    same: [-1, -2, -3],
    again: [-1, -2, -3],
    input: [1, 2, 3],
    twice: [1, 2, 3],
    constant: [5, 6],
    large: new Array(100).fill(3),
    next: [1, 1, 1],
  });
});

test("an output in the middle of a chain is still what the chain goes on with", async () => {
  const outputs = await run((input) => {
    const a = tf.neg(input("x", [2], "float32"));
    const b = tf.square(a);
    return { b, a, c: tf.add(a, b) };
  });
  assert.deepEqual(outputs, { a: [-1, -2], b: [1, 4], c: [0, 2] });
});

test("a kernel that lowers to nothing (addN of one) may be an output beside its input", async () => {
  const outputs = await run((input) => {
    const x = input("x", [2], "float32");
    const y = tf.neg(x);
    return { alone: tf.addN([x]), y, wrapped: tf.addN([y]) };
  });
  assert.deepEqual(outputs, { alone: [1, 2], y: [-1, -2], wrapped: [-1, -2] });
});

test("an input that nothing uses is still fed", async () => {
  const outputs = await run((input) => {
    input("unused", [2], "float32");
    return { y: tf.neg(input("x", [2], "float32")) };
  });
  assert.deepEqual(outputs, { y: [-1, -2] });
});

const bytes = (make: () => tf.Tensor) =>
  lower(trace((input) => ({ y: tf.mul(tf.sum(make()), input("x", [], "float32")) }))).length;

test("a large constant that is the same everywhere takes no room, others take theirs", () => {
  const uniform = bytes(() => tf.zeros([1000, 1000]));
  assert.ok(uniform < 1000, `${uniform} bytes`);
  assert.equal(
    bytes(() => tf.fill([1000, 1000], 2.5)),
    uniform,
  );
  const mixed = bytes(() => tf.tensor1d(Float32Array.from({ length: 1000 }, (_, i) => i)));
  assert.ok(mixed > 4000, `${mixed} bytes`);
  assert.ok(bytes(() => tf.tensor1d(new Float32Array(1000).fill(1, 0, 999))) > 4000, "all but the last are equal");
});

test("uniform constants have the right number, size and type", async () => {
  const outputs = await run((input) => ({
    f: tf.add(tf.fill([65], 2.5), input("x", [], "float32")),
    i: tf.fill([65], 7, "int32"),
    b: tf.ones([65], "bool"),
  }));
  assert.deepEqual(outputs.f, new Array(65).fill(3.5));
  assert.deepEqual(outputs.i, new Array(65).fill(7));
  assert.deepEqual(outputs.b, new Array(65).fill(1));
});

test("small constants are shared by content, and not across types or shapes", async () => {
  const chain = (count: number, number: (i: number) => number) =>
    lower(
      trace((input) => {
        let x = input("x", [], "float32");
        for (let i = 0; i < count; i++) x = tf.mul(x, number(i));
        return { x };
      }),
    ).length;
  assert.ok(chain(20, () => 0.5) < chain(20, (i) => i + 0.5) - 19 * 8, "one 0.5 is stored, not twenty");
  // 1065353216 has, as an int32, the bits of 1 as a float32
  const outputs = await run((input) => {
    const x = input("x", [], "float32");
    return {
      f: tf.add(x, 1),
      i: tf.add(tf.cast(x, "int32"), tf.scalar(1065353216, "int32")),
      v: tf.add(x, tf.tensor1d([1])),
    };
  });
  assert.deepEqual(outputs, { f: [2], i: [1065353217], v: [2] });
});

test("a weight's gradient is computed where it was recorded, not after the whole backward pass", async () => {
  // y = ((x a) b) c: three products forward, then in the backward pass each weight's gradient beside its input's
  const names = ["a", "b", "c"];
  const graph = trace((input) => {
    const x = input("x", [4, 4], "float32") as tf.Tensor2D;
    const weights = names.map((name) => input(name, [4, 4], "float32") as tf.Tensor2D);
    const loss = (...ws: tf.Tensor[]) =>
      tf.sum(ws.reduce((y, w) => tf.matMul(y as tf.Tensor2D, w as tf.Tensor2D), x as tf.Tensor)) as tf.Scalar;
    const { value, grads } = tf.valueAndGrads(loss)(weights);
    return { value, ...Object.fromEntries(grads.map((grad, i) => [`grad.${names[i]}`, grad])) };
  });
  const written = Buffer.from(lower(graph)).toString("latin1");
  // the runtime starts from the results that nothing reads, the last one first: so the loss stands last, the last
  // weight's gradient before it
  const at = names.map((name) => written.indexOf(`grad.${name}`));
  assert.ok(at[0]! < at[1]! && at[1]! < at[2]!, `gradients at ${at}`);
  assert.ok(at.every((place) => place > 0));
});
