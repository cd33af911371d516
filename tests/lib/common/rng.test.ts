// The random numbers: their statistics at fixed seeds (so a bound holds always or never), and the fast mask loop
// against a slow one.

import assert from "node:assert/strict";
import test from "node:test";

import {
  fillIntegers,
  fillKeepMask,
  fillKeepMaskPlain,
  fillNormal,
  type Key,
  keyOf,
  uniform,
} from "../../../lib/common/rng.ts";

const N = 100_000;
/** Standard errors that an estimate may be off: one in 15,000 fair draws is further out. The seeds are fixed, so the
 * verdict does not change from run to run. */
const SIGMAS = 4;

const draws = (key: Key, count = N) => Float64Array.from({ length: count }, (_, i) => uniform(key, i));
const mean = (x: ArrayLike<number>) => Array.from(x).reduce((sum, number) => sum + number, 0) / x.length;

/** Correlation of two sequences; for independent ones its standard error is 1 / sqrt(length). */
function correlation(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const [meanA, meanB] = [mean(a), mean(b)];
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    const [x, y] = [a[i]! - meanA, b[i]! - meanB];
    ab += x * y;
    aa += x * x;
    bb += y * y;
  }
  return ab / Math.sqrt(aa * bb);
}

function assertNear(actual: number, expected: number, standardError: number, label: string): void {
  assert.ok(
    Math.abs(actual - expected) < SIGMAS * standardError,
    `${label}: ${actual}, should be ${expected} within ${SIGMAS * standardError}`,
  );
}

const SEEDS = [0, 1337, 2 ** 40];

test("uniform: in [0, 1), mean 1/2, variance 1/12, flat in 64 bins", () => {
  for (const seed of SEEDS) {
    const x = draws(keyOf(seed));
    assert.ok(x.every((number) => number >= 0 && number < 1));
    assertNear(mean(x), 0.5, Math.sqrt(1 / 12 / N), `mean of seed ${seed}`);
    const squares = x.map((number) => (number - 0.5) ** 2);
    assertNear(mean(squares), 1 / 12, Math.sqrt(1 / 180 / N), `variance of seed ${seed}`);
    const bins = new Float64Array(64);
    for (const number of x) bins[Math.floor(number * 64)]! += 1;
    const chiSquare = bins.reduce((sum, count) => sum + (count - N / 64) ** 2 / (N / 64), 0);
    assertNear(chiSquare, 63, Math.sqrt(2 * 63), `chi square of seed ${seed}`);
  }
});

test("uniform: neighbours in a stream don't know of each other", () => {
  for (const seed of SEEDS) {
    const x = draws(keyOf(seed));
    for (const lag of [1, 2, 3, 4, 8, 64, 256]) {
      assertNear(correlation(x.subarray(lag), x.subarray(0, -lag)), 0, 1 / Math.sqrt(N), `seed ${seed}, lag ${lag}`);
    }
  }
});

test("streams of neighbouring keys don't know of each other", () => {
  const neighbours: [Key, Key][] = [];
  for (let i = 0; i < 5; i++) {
    neighbours.push([keyOf("dropout", 1, i), keyOf("dropout", 1, i + 1)]);
    neighbours.push([keyOf("dropout", i, 0), keyOf("dropout", i + 1, 0)]);
  }
  const count = 20_000;
  for (const [a, b] of neighbours) {
    for (const lag of [0, 1]) {
      const r = correlation(draws(a, count).subarray(lag), draws(b, count).subarray(0, count - lag));
      assertNear(r, 0, 1 / Math.sqrt(count), `keys ${a} and ${b}, lag ${lag}`);
    }
  }
});

test("uniform: 53 random bits, the last ones too", () => {
  const bits = new Float64Array(53);
  const count = 20_000;
  for (let i = 0; i < count; i++) {
    let number = uniform(keyOf("bits"), i) * 2 ** 53;
    assert.equal(number, Math.floor(number));
    for (let bit = 0; bit < 53; bit++) {
      bits[bit]! += number % 2;
      number = Math.floor(number / 2);
    }
  }
  bits.forEach((ones, bit) => {
    assertNear(ones / count, 0.5, 0.5 / Math.sqrt(count), `bit ${bit}`);
  });
});

test("uniform: the low bits don't follow from the high ones", () => {
  const x = draws(keyOf("low bits"));
  const low = x.map((number) => (number * 2 ** 27) % 1);
  assertNear(mean(low), 0.5, Math.sqrt(1 / 12 / N), "mean of the low bits");
  assertNear(correlation(x, low), 0, 1 / Math.sqrt(N), "high against low bits");
});

test("a stream is a function of its key alone, and parts are told apart", () => {
  assert.deepEqual(keyOf(1, "a", 2), keyOf(1, "a", 2));
  const parts = [[], [0], [0, 0], [1], [-1], [2 ** 32], [2 ** 32 + 1], [1, 2], [2, 1], ["a"], ["ab"], ["a", "b"]];
  const more = [["b", "a"], ["ab", "c"], ["a", "bc"], ["1"], ["12"], ["1", "2"], [""], ["a", 1], [1, "a"]];
  const all = [...parts, ...more] as (number | string)[][];
  const keys = all.map((part) => keyOf(...part).join());
  assert.equal(new Set(keys).size, keys.length, "two keys are the same");
  const many = new Set<string>();
  for (let i = 0; i < 100; i++) for (let j = 0; j < 100; j++) many.add(keyOf(i, j).join());
  assert.equal(many.size, 100 * 100);
  const first = new Set<number>();
  for (let i = 0; i < 10_000; i++) first.add(uniform(keyOf("seed", i), 0));
  assert.equal(first.size, 10_000, "streams start differently");
});

test("fillNormal: mean, deviation, tails, no correlation; an odd length is a prefix of an even one", () => {
  const x = new Float32Array(N);
  fillNormal(x, keyOf("normal"), 3);
  assertNear(mean(x), 0, 3 / Math.sqrt(N), "mean");
  assertNear(mean(x.map((number) => number * number)), 9, 9 * Math.sqrt(2 / N), "variance");
  assertNear(mean(x.map((number) => number ** 3)), 0, 27 * Math.sqrt(15 / N), "third moment");
  assertNear(mean(x.map((number) => (number / 3) ** 4)), 3, Math.sqrt(96 / N), "fourth moment");
  const outside = x.filter((number) => Math.abs(number) > 6).length / N;
  assertNear(outside, 0.0455, Math.sqrt(0.0455 / N), "share beyond two deviations");
  for (const lag of [1, 2, 3]) {
    assertNear(correlation(x.subarray(lag), x.subarray(0, -lag)), 0, 1 / Math.sqrt(N), `lag ${lag}`);
  }
  for (const length of [0, 1, 7]) {
    const short = new Float32Array(length);
    fillNormal(short, keyOf("normal"), 3);
    assert.deepEqual(short, x.slice(0, length));
  }
  assert.ok(x.every(Number.isFinite));
});

const RATES = [0, 0.1, 0.2, 0.5, 0.9, 0.999, 1, 1e-9];

test("fillKeepMask: equals its plain twin at every length and rate, and writes nothing else", () => {
  for (const rate of RATES) {
    for (const length of [...Array.from({ length: 34 }, (_, i) => i), 32_767, 32_768, 32_769, 70_001]) {
      const expected = new Uint8Array(length);
      fillKeepMaskPlain(expected, keyOf("mask", length), rate);
      for (const offset of [0, 1, 2, 3, 4, 7]) {
        const whole = new Uint8Array(length + 16).fill(9);
        fillKeepMask(whole.subarray(offset, offset + length), keyOf("mask", length), rate);
        const label = `length ${length}, rate ${rate}, offset ${offset}`;
        assert.ok(Buffer.compare(whole.subarray(offset, offset + length), expected) === 0, label);
        const around = [...whole.subarray(0, offset), ...whole.subarray(offset + length)];
        assert.ok(
          around.every((byte) => byte === 9),
          `wrote outside: ${label}`,
        );
      }
    }
  }
});

test("fillIntegers: every bit of so many is as likely as not, the first is the sign, and those above repeat it", () => {
  for (const bits of [1, 2, 20, 32]) {
    const integers = new Int32Array(N);
    fillIntegers(integers, keyOf("integers", bits), bits);
    for (let bit = 0; bit < 32; bit++) {
      const set = integers.reduce((sum, integer) => sum + ((integer >>> bit) & 1), 0);
      assertNear(set / N, 0.5, 0.5 / Math.sqrt(N), `${bits} bits, bit ${bit}`);
    }
    assert.ok(integers.every((integer) => integer >= -(2 ** (bits - 1)) && integer < 2 ** (bits - 1)));
  }
});

test("fillKeepMask: keeps 1 - rate of the elements, independently", () => {
  for (const rate of [0.1, 0.2, 0.5, 0.9]) {
    const mask = new Uint8Array(N);
    fillKeepMask(mask, keyOf("rate", rate * 100), rate);
    assertNear(mean(mask), 1 - rate, Math.sqrt((rate * (1 - rate)) / N), `kept at rate ${rate}`);
    for (const lag of [1, 2, 3, 4, 5, 64]) {
      const r = correlation(mask.subarray(lag), mask.subarray(0, -lag));
      assertNear(r, 0, 1 / Math.sqrt(N), `rate ${rate}, lag ${lag}`);
    }
    for (let place = 0; place < 4; place++) {
      const every = mask.filter((_, i) => i % 4 === place);
      assertNear(mean(every), 1 - rate, Math.sqrt((rate * (1 - rate)) / every.length), `rate ${rate}, place ${place}`);
    }
  }
  const all = new Uint8Array(100);
  fillKeepMask(all, keyOf("all"), 0);
  assert.ok(all.every((kept) => kept === 1));
  fillKeepMask(all, keyOf("all"), 1);
  assert.ok(all.every((kept) => kept === 0));
});
