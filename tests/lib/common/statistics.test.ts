// Run: npm test -- tests/lib/common/statistics.test.ts

import assert from "node:assert/strict";
import { test } from "node:test";

import { fitExponent, median, quantile, round } from "../../../lib/common/statistics.ts";

test("the exponent of an exact power law is found, whatever its factor", () => {
  for (const exponent of [-0.5, 0, 1, 2, 1.37]) {
    const points = [1, 2, 3, 8, 100].map((x) => [x, 7 * x ** exponent] as const);
    assert.ok(Math.abs(fitExponent(points) - exponent) < 1e-12, `${exponent}`);
  }
});

test("an exponent of noisy points is the least squares one of their logarithms", () => {
  // log2: (0, 0), (1, 2), (2, 1) -> slope 1/2
  const points = [
    [1, 1],
    [2, 4],
    [4, 2],
  ] as const;
  assert.ok(Math.abs(fitExponent(points) - 0.5) < 1e-12);
});

test("what has no exponent gives NaN", () => {
  for (const text of ["", "2:3", "2:3 2:4", "1:0 2:1", "1:-1 2:1"]) {
    const points = text
      .split(" ")
      .filter(Boolean)
      .map((point) => point.split(":").map(Number) as [number, number]);
    assert.ok(Number.isNaN(fitExponent(points)), text);
  }
});

test("quantiles lie between the values", () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 3, 2]), 2.5);
  assert.equal(quantile([10, 20, 30, 40, 50], 0.25), 20);
  assert.equal(quantile([1, 2], 0.25), 1.25);
  assert.equal(median([5]), 5);
  assert.ok(Number.isNaN(median([])));
});

test("numbers are rounded to six digits, small ones too", () => {
  assert.equal(round(123.456789), 123.457);
  assert.equal(round(0.000012345678), 0.0000123457);
  assert.equal(round(0), 0);
});
