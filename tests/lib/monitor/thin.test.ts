// lib/monitor/thin.ts: what is drawn of a long series has its ends, its extremes and its gaps, and is exact once few
// points are left.

import assert from "node:assert/strict";
import { test } from "node:test";

import { smooth, thin } from "../../../lib/monitor/thin.ts";

const N = 100_000;
const iters = Array.from({ length: N }, (_, i) => i);
const values = iters.map((i) => Math.sin(i / 5000) + (i % 7) / 100);
[values[54_321], values[70_000], values[80_000]] = [99, -99, Number.NaN];
const long = { iters, values };
const ALL = { from: 0, to: N };

test("a long series becomes two points a bucket, among them each extreme at its step", () => {
  const points = thin(long, ALL, 500);
  assert.ok(points.iters.length <= 1000 && points.iters.length > 900, String(points.iters.length));
  assert.equal(points.values[points.iters.indexOf(54_321)], 99);
  assert.equal(points.values[points.iters.indexOf(70_000)], -99);
  assert.deepEqual(
    points.iters,
    [...new Set(points.iters)].sort((a, b) => a - b),
  );
  for (const [i, iter] of points.iters.entries()) assert.equal(points.values[i], values[iter]);
});

test("a range is exact, with its neighbours", () => {
  const points = thin(long, { from: 54_300, to: 54_400 }, 500);
  assert.deepEqual(points, { iters: iters.slice(54_299, 54_402), values: values.slice(54_299, 54_402) });
  assert.deepEqual(thin(long, { from: 2e6, to: 3e6 }, 500).iters, [N - 1]);
  assert.deepEqual(thin({ iters: [], values: [] }, ALL, 500), { iters: [], values: [] });
});

test("what is no number is a gap where it stands alone, and hides no number", () => {
  assert.deepEqual(thin({ iters: [0, 1, 2], values: [1, Number.NaN, Infinity] }, ALL, 5).values, [1, null, null]);
  assert.ok(!thin(long, ALL, 500).values.includes(null));
  const diverged = { iters, values: values.map((value, i) => (i < 50_000 ? value : Number.NaN)) };
  const points = thin(diverged, ALL, 500);
  assert.ok(points.iters.every((iter, i) => (points.values[i] === null) === iter >= 50_000));
});

test("steps far apart and steps close together", () => {
  const uneven = { iters: [...iters.slice(0, 50), 1e6, 2e6], values: iters.slice(0, 52) };
  assert.deepEqual(thin(uneven, { from: 0, to: 2e6 }, 4).iters, [0, 49, 1e6, 2e6]);
});

test("smoothing is the mean around a point, and less at the ends", () => {
  const { values: smoothed } = smooth({ iters: [0, 1, 2, 3, 4], values: [10, 4, 1, 4, 7] }, 3);
  assert.deepEqual(smoothed, [10, 5, 3, 4, 5.5]);
  assert.deepEqual(smooth({ iters: [0, 1, 2], values: [1, Number.NaN, 3] }, 3).values, [1, 2, 3]);
  assert.deepEqual(smooth({ iters: [0, 1], values: [2, 4] }, 1).values, [2, 4]);
});
