// Dropout of attention weights: the slow form of which are kept, and the same choice in every part.

import assert from "node:assert/strict";
import test from "node:test";
import { fillIntegers, keyOf } from "../../../lib/common/rng.ts";
import { tf } from "../../../lib/common/tf.ts";
import type { DropoutRng } from "../../../lib/nn/dropout.ts";
import { choiceOf, chooseWeights, dropWeights } from "../../../lib/nn/weight_dropout.ts";
import { assertClose, compiled, eager, evaluate, floats } from "../../support.ts";

/** 1 where query i keeps key j, [N, T, S], by integers of the C kind, one by one. */
function plain(rate: number, rows: Int32Array, columns: Int32Array, [N, T, S]: [number, number, number]): number[] {
  return Array.from({ length: N * T * S }, (_, at) => {
    const [n, i, j] = [Math.floor(at / (T * S)), Math.floor(at / S) % T, at % S];
    const odd = 2 * rows[n * T + i]! + 1;
    return Math.imul(odd, columns[n * S + j]!) >= rate * 2 ** 32 - 2 ** 31 ? 1 : 0;
  });
}

/** The numbers that the first choice with this key has. */
function numbersOf(dropout: number[], [N, T, S]: [number, number, number]): [rows: Int32Array, columns: Int32Array] {
  const [rows, columns] = [new Int32Array(N * T), new Int32Array(N * S)];
  fillIntegers(rows, keyOf("dropout", ...dropout, 0), 20);
  fillIntegers(columns, keyOf("dropout", ...dropout, 1), 32);
  return [rows, columns];
}

const SHAPE: [number, number, number] = [3, 7, 11];
const [QUERY, KEY] = [tf.zeros([3, 7, 2]), tf.zeros([3, 11, 2])]; // of such weights

for (const [kind, engine] of Object.entries({ compiled, eager })) {
  test(`${kind}: what is kept is scaled, and the gradient with it, as one by one`, async () => {
    for (const rate of [0.001, 0.1, 0.5, 0.999]) {
      const weights = floats("weights", SHAPE);
      const run = ([x]: tf.Tensor[], mask: DropoutRng) => dropWeights(x!, chooseWeights(rate, mask, QUERY, KEY));
      const dy = floats("dy", SHAPE).data as Float32Array;
      const { values, grads } = await evaluate(engine, run, [weights], { dropout: [4, 2], dy });
      const factors = plain(rate, ...numbersOf([4, 2], SHAPE), SHAPE).map((keep) => keep / (1 - rate));
      // one product, and one with 1 / (1 - rate) in single precision
      const tolerance = { atol: 0, rtol: 1e-6 };
      const times = (data: Float32Array) => factors.map((factor, i) => factor * data[i]!);
      assertClose(values, times(weights.data as Float32Array), { ...tolerance, label: `rate ${rate}` });
      assertClose(grads[0]!, times(dy), { ...tolerance, label: `rate ${rate}, gradient` });
    }
  });

  test(`${kind}: any part has the choice of the whole`, async () => {
    const ones = { shape: SHAPE, data: new Float32Array(3 * 7 * 11).fill(1) };
    const options = { dropout: [8], gradients: false };
    const choose = (mask: DropoutRng) => chooseWeights(0.5, mask, QUERY, KEY)!;
    const whole = await evaluate(engine, ([x], mask) => dropWeights(x, choose(mask)), [ones], options);
    const part = { from: 2, end: 6, ranges: [[0, 3] as const, [5, 10] as const] };
    const some = await evaluate(
      engine,
      ([x], mask) => dropWeights(tf.slice(x, [0, 0, 0], [3, 4, 8]), choiceOf(choose(mask), part)),
      [ones],
      options,
    );
    const expected: number[] = [];
    for (let n = 0; n < 3; n++) {
      for (let i = 2; i < 6; i++) {
        for (const j of [0, 1, 2, 5, 6, 7, 8, 9]) expected.push(whole.values[(n * 7 + i) * 11 + j]!);
      }
    }
    assert.deepEqual([...some.values], expected);
  });
}

test("no choice without a mask source, or at rate 0", () => {
  const fail = () => assert.fail("a choice was drawn");
  const never = { keep: fail, integers: fail };
  assert.equal(chooseWeights(0.5, undefined, QUERY, KEY), undefined);
  assert.equal(chooseWeights(0, never, QUERY, KEY), undefined);
  const x = tf.tensor1d([1, 2]);
  assert.equal(dropWeights(x, undefined), x);
  x.dispose();
});
