// What `pos` may be: the tables of the papers and of transformers, compiled and eager, from the first position on and from
// any other. Whole models with each are in layer_choices.test.ts.

import assert from "node:assert/strict";
import test from "node:test";

import { tf } from "../../../lib/common/tf.ts";

import type { PositionName } from "../../../lib/nn/choices.ts";
import { Scope } from "../../../lib/nn/module.ts";
import { Parameter } from "../../../lib/nn/parameter.ts";
import {
  alibiSlopes,
  bucketOf,
  type Position,
  type PositionConfig,
  positionEmbedding,
  positions,
} from "../../../lib/nn/position.ts";
import { layerFixture } from "../../fixtures/layers/read.ts";
import { type Argument, assertClose, assertLayer, compiled, eager, evaluate, floats, ints } from "../../support.ts";

const CONFIG: PositionConfig = {
  ...{ n_embd: 24, n_head: 3, block_size: 13, rope_theta: 10_000, rope_fraction: 1 },
  ...{ relative_buckets: 8, relative_max_distance: 12 },
};

function make(pos: PositionName, changes: Partial<PositionConfig> = {}): { position: Position; weights: Parameter[] } {
  const weights: Parameter[] = [];
  return { position: new positions[pos]!(new Scope(weights), { ...CONFIG, ...changes }), weights };
}

/** The numbers from `low` to below `high`, as an integer input. */
const range = (low: number, high: number): Argument => ({
  shape: [high - low],
  data: Int32Array.from({ length: high - low }, (_, i) => low + i),
});

const sines = layerFixture("sinusoidal").tensors;
for (const C of [6, 16]) {
  test(`sinusoidal: the paper's table, ${C} wide`, async () => {
    const { position, weights } = make("sinusoidal", { n_embd: C });
    assert.deepEqual(weights, []);
    const expected = sines.get(`positions_${C}`)!.data; // positions from 0 to 40
    for (const engine of [compiled, eager]) {
      // an angle of 40 in single precision is off by up to 4e-6
      const whole = await evaluate(engine, () => position.embed!(41), []);
      assertClose(whole.values, expected, { atol: 1e-5, label: "from 0 on" });
      const later = await evaluate(engine, ([places]) => position.embed!(places), [range(7, 41)]);
      assertClose(later.values, expected.subarray(7 * C), { atol: 1e-5, label: "from 7 on" });
    }
  });
}

const turned = layerFixture("rotary").tensors;
for (const [theta, R] of [
  [10_000, 8],
  [500, 8],
  [10_000, 4],
] as const) {
  test(`rotary: transformers' Llama, theta ${theta}, ${R} of 8 channels`, async () => {
    const { position, weights } = make("rotary", { rope_theta: theta, rope_fraction: R / 8 });
    assert.deepEqual(weights, []);
    const x = turned.get("x")!; // [2, 3, 13, 8]
    const expected = turned.get(`theta_${theta}_places_${R}`)!.data;
    const plain = (x: tf.Tensor) => {
      const angle = Array.from({ length: 13 * 8 }, (_, i) => Math.floor(i / 8) * theta ** ((-2 * (i % (R / 2))) / R));
      const factor = (f: (angle: number) => number, still: number) =>
        tf.tensor2d(
          angle.map((angle, i) => (i % 8 < R ? f(angle) : still)),
          [13, 8],
        );
      const [a, b, rest] = tf.split(x, [R / 2, R / 2, 8 - R], 3) as [tf.Tensor, tf.Tensor, tf.Tensor];
      const other = tf.concat([tf.neg(b), a, rest], 3);
      return tf.add(tf.mul(x, factor(Math.cos, 1)), tf.mul(other, factor(Math.sin, 0)));
    };
    // an angle of 12 in single precision is off by up to 1e-6, and numbers are up to 3
    const tolerance = { atol: 5e-6, label: "rotary" };
    const { values } = await assertLayer(
      ([x]) => position.turn!(x, 13),
      ([x]) => plain(x),
      [x],
      tolerance,
    );
    assertClose(values, expected, tolerance);
    for (const engine of [compiled, eager]) {
      const last = ([x, places]: tf.Tensor[]) => position.turn!(tf.slice(x!, [0, 0, 9, 0], [-1, -1, 4, -1]), places!);
      const later = await evaluate(engine, last, [x, range(9, 13)]);
      const rows = expected.filter((_, i) => Math.floor(i / 8) % 13 >= 9);
      assertClose(later.values, rows, { ...tolerance, label: "from 9 on" });
    }
  });
}

test("alibi: slopes of 1 to 16 heads as in Bloom, times the distance back", async () => {
  const { tensors } = layerFixture("alibi_slopes");
  assert.equal(tensors.size, 16);
  const distance = Int32Array.of(0, 1, 2, 7, -3, 40);
  for (let H = 1; H <= 16; H++) {
    const slopes = tensors.get(`slopes_${H}`)!.data;
    assert.deepEqual(Float32Array.from(alibiSlopes(H)), slopes);
    if (H !== 6 && H !== 8) continue;
    const { position, weights } = make("alibi", { n_head: H });
    assert.deepEqual(weights, []);
    const expected = [...slopes].flatMap((slope) => [...distance].map((steps) => -slope * steps));
    for (const engine of [compiled, eager]) {
      const bias = ([steps]: tf.Tensor[]) => position.bias!(tf.cast(steps!, "float32"));
      const { values } = await evaluate(engine, bias, [{ shape: [2, 3], data: distance }]);
      assertClose(values, expected, { atol: 0, rtol: 1e-7, label: `${H} heads` }); // one product
    }
  }
});

const buckets = layerFixture("relative_buckets").integers;
for (const [key, count, most] of [
  ["bucket_before", 32, 128],
  ["bucket_before_8_12", 8, 12],
] as const) {
  test(`relative: T5's ${count} buckets to distance ${most}, up to 300`, async () => {
    const distance = buckets.get("distance")!;
    const expected = [...buckets.get(key)!.data];
    const of = ([steps]: tf.Tensor[]) => bucketOf(tf.cast(steps!, "float32"), count, most);
    for (const engine of [compiled, eager]) {
      const { values, types } = await evaluate(engine, of, [distance]);
      assert.deepEqual([...values], expected);
      assert.deepEqual(types, ["int32"]);
      const ahead = await evaluate(engine, of, [range(-40, 0)]);
      assert.deepEqual([...ahead.values], Array(40).fill(0)); // a key that is not there, or later
    }
  });
}

test("relative: a head's number for the bucket, and its gradient a sum over the bucket", async () => {
  const [T, S, H] = [2, 9, 3];
  const distances: Argument = { shape: [T, S], data: ints("distance", [T, S], 0, 30).data };
  const ids = [...distances.data].map((steps) => buckets.get("bucket_before_8_12")!.data[steps]!);
  await assertLayer(
    ([table, steps]) => {
      const { position, weights } = make("relative", { n_head: H });
      weights[0]!.value = table;
      return position.bias!(tf.cast(steps, "float32"));
    },
    ([table]) => {
      const picked = tf.matMul(tf.oneHot(ids, 8).toFloat() as tf.Tensor2D, table as tf.Tensor2D); // [T S, H]
      return tf.reshape(tf.transpose(picked), [H, T, S]);
    },
    [floats("table", [8, H]), distances],
    { atol: 2e-6, label: "relative" }, // sums of up to 18 numbers below 1
  );
});

test("learned: a row of the table for each position, and its gradient there", async () => {
  const table = floats("table", [13, 24]);
  const learned = ([rows, places]: tf.Tensor[], T: number) => {
    const wpe = new Parameter("wpe", [13, 24], { constant: 0 });
    wpe.value = rows!;
    return positionEmbedding(wpe, places ?? T);
  };
  for (const T of [13, 4]) {
    const rows = ([table]: tf.Tensor[]) => tf.slice(table!, [0, 0], [T, -1]);
    await assertLayer((args) => learned(args, T), rows, [table], { atol: 0, label: `the first ${T}` });
  }
  for (const engine of [compiled, eager]) {
    const { values } = await evaluate(engine, (args) => learned(args, 0), [table, range(5, 9)], { gradients: false });
    assertClose(values, table.data.subarray(5 * 24, 9 * 24), { atol: 0, label: "from 5 on" });
  }
});

test("none does nothing", () => {
  const { position, weights } = make("none");
  assert.deepEqual([position.embed, position.turn, position.bias, weights], [undefined, undefined, undefined, []]);
});
