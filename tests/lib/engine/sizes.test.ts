// Sizes that vary: which expression a number of a graph is, and that one model then serves every size.

import assert from "node:assert/strict";
import test from "node:test";

import { tf } from "../../../lib/common/tf.ts";

import { lowerFrozen } from "../../../lib/engine/runtime/frozen.ts";
import { bind, Session } from "../../../lib/engine/runtime/session.ts";
import { evaluate, type SizeValues, traceSizes } from "../../../lib/engine/sizes.ts";
import { type DeclareInput, trace } from "../../../lib/engine/trace.ts";
import { assertClose, randomFloats, sizeOf } from "../../support.ts";

type Sized = (sizes: SizeValues, input: DeclareInput) => tf.Tensor;

const traceAll = (names: string[], body: Sized) =>
  traceSizes(names, (sizes) => trace((input) => ({ y: body(sizes, input) })));

test("a number is a product of sizes and sums of two, and the expression gives it back", () => {
  const traces = traceAll(["a", "b"], ({ a, b }, input) => {
    const x = tf.reshape(input("x", [a!, b!, 12], "float32"), [a! * b! * 4, 3]);
    const y = input("y", [a! + b!, a!, 5], "float32");
    return tf.add(tf.sum(x), tf.sum(tf.reshape(y, [(a! + b!) * a!, 5])));
  });
  for (const { graph, expressions } of traces) {
    const [a, b] = graph.inputs.get("x")!.shape as [number, number];
    assert.deepEqual(expressions.get(a), { factor: 1, terms: [["a"]] });
    assert.deepEqual(expressions.get(a * b * 4), { factor: 4, terms: [["a"], ["b"]] });
    assert.deepEqual(expressions.get(a + b), { factor: 1, terms: [["a", "b"]] });
    for (const [number, expression] of expressions) assert.equal(evaluate(expression, { a, b }), number);
    for (const fixed of [12, 3, 5]) assert.equal(expressions.has(fixed), false);
  }
});

/** Run the body as one model at several sizes, and by itself at each: the same. */
async function agree(names: string[], body: Sized, cases: SizeValues[]): Promise<void> {
  const traces = traceAll(names, body);
  const session = await Session.create(lowerFrozen(traces, {}), { threads: 1 });
  for (const sizes of cases) {
    const given: Record<string, { data: Float32Array; shape: number[]; dtype: "float32" }> = {};
    const expected = tf.tidy(() => {
      const result = body(sizes, (name, shape) => {
        const data = randomFloats(name, shape);
        given[name] = { data, shape: [...shape], dtype: "float32" };
        return tf.tensor(data, [...shape]);
      });
      return { data: result.dataSync().slice(), shape: result.shape };
    });
    const y = new Float32Array(sizeOf(expected.shape));
    await session.run(bind(given), bind({ y: { data: y, shape: expected.shape, dtype: "float32" } }));
    assertClose(y, expected.data, { atol: 1e-5, rtol: 1e-5, label: JSON.stringify(sizes) });
  }
  await session.dispose();
}

const CASES = [
  { a: 1, b: 1 },
  { a: 3, b: 2 },
  { a: 2, b: 70 },
  { a: 101, b: 5 }, // a size that is one of the primes
];

test("reshape, slice, split, concat, tile, broadcast and fill at any size", async () => {
  await agree(
    ["a", "b"],
    ({ a, b }, input) => {
      const x = input("x", [a!, b!, 6], "float32");
      const flat = tf.reshape(x, [a! * b!, 6]);
      const wide = tf.reshape(tf.transpose(x, [1, 0, 2]), [b!, a! * 6]);
      const joined = tf.concat([x, tf.neg(x)], 1); // [a, 2 b, 6]
      const [left, right] = tf.split(joined, [b!, b!], 1) as [tf.Tensor, tf.Tensor];
      const cut = tf.slice(joined, [0, b!, 1], [a!, b!, 2]);
      const filled = tf.mul(tf.fill([a!, b!, 6], 0.5), tf.broadcastTo(tf.sum(x, 1, true), [a!, b!, 6]));
      const tiled = tf.tile(tf.mean(x, 1, true), [1, b!, 1]);
      const sums = [tf.matMul(flat, flat, true), wide, tf.sub(left, right), cut, filled, tiled].map((t) => tf.sum(t));
      return tf.stack([...sums, tf.sum(tf.softmax(tf.reshape(joined, [a!, 2 * b! * 6])))]);
    },
    CASES,
  );
});

test("counting by adding ones gives a size as a number", async () => {
  await agree(
    ["a", "b"],
    ({ a, b }, input) =>
      tf.add(tf.mul(tf.sum(input("x", [a!, b!], "float32")), 0), tf.sum(tf.mul(tf.ones([a!]), tf.sum(tf.ones([b!]))))),
    CASES,
  );
});

test("a number that isn't a product of sizes is refused", () => {
  assert.throws(
    () => traceAll(["a"], ({ a }, input) => tf.slice(input("x", [a!, 2], "float32"), [0, 0], [a! - 1, 2])),
    /isn't a product of sizes/,
  );
});

test("another structure at other sizes is refused", () => {
  const body: Sized = ({ a }, input) => {
    const x = input("x", [a!], "float32");
    return a! % 4 === 1 ? tf.neg(x) : tf.abs(x); // 101 is, 127 is not
  };
  assert.throws(() => traceAll(["a"], body), /operations depend on the sizes/);
});

test("a size that became a constant is refused: the two lowered models differ", () => {
  const traces = traceAll(["a"], ({ a }, input) => tf.div(tf.sum(input("x", [a!], "float32")), a!));
  assert.throws(() => lowerFrozen(traces, {}), /depends on its sizes/);
});

test("a model whose own size is one of the primes is traced at others", () => {
  const traces = traceAll(["a"], ({ a }, input) => tf.matMul(input("x", [a!, 101], "float32"), tf.ones([101, 127])));
  const { graph, expressions } = traces[0]!;
  assert.deepEqual(expressions.get(graph.inputs.get("x")!.shape[0]!), { factor: 1, terms: [["a"]] });
  assert.equal(expressions.has(101), false);
});
