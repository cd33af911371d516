// Thins long series for plotting: as many points as pixels can show, the lowest and the highest of each. The server keeps every step
// of a run; a page holds only these.

import type { Series } from "./metrics_file.ts";

/** JSON has no NaN: null, a gap in the line. */
export interface Points {
  iters: number[];
  values: (number | null)[];
}

/** A range of steps, both ends in it. */
export interface Range {
  from: number;
  to: number;
}

/**
 * The points from `from` to `to` and their two neighbours. All of them if at most two for each of the `buckets`, else the lowest and
 * the highest of each bucket, in order.
 */
export function thin({ iters, values }: Series, { from, to }: Range, buckets: number): Points {
  const first = Math.max(0, firstFrom(iters, from) - 1);
  const end = Math.min(iters.length, firstFrom(iters, to + 1) + 1);
  const points: Points = { iters: [], values: [] };
  const take = (i: number) => {
    points.iters.push(iters[i]!);
    points.values.push(Number.isFinite(values[i]!) ? values[i]! : null);
  };
  if (end - first <= 2 * buckets) {
    for (let i = first; i < end; i++) take(i);
    return points;
  }
  const width = (iters[end - 1]! - iters[first]! + 1) / buckets;
  for (let i = first, bucket = 0; i < end; bucket++) {
    const limit = iters[first]! + (bucket + 1) * width;
    let [low, high, j] = [i, i, i];
    for (; j < end && (j === i || iters[j]! < limit); j++) {
      if (!(values[low]! <= values[j]!) && !Number.isNaN(values[j]!)) low = j;
      if (!(values[high]! >= values[j]!) && !Number.isNaN(values[j]!)) high = j;
    }
    take(Math.min(low, high));
    if (low !== high) take(Math.max(low, high));
    i = j;
  }
  return points;
}

/**
 * Moving average over the `window` points around each, fewer at the ends: the first ones take as many before as after, so that a
 * steep start stays in place. NaNs are left out.
 */
export function smooth({ iters, values }: Series, window: number): Series {
  const sums = new Float64Array(values.length + 1);
  const counts = new Uint32Array(values.length + 1);
  for (let i = 0; i < values.length; i++) {
    const known = Number.isFinite(values[i]!);
    sums[i + 1] = sums[i]! + (known ? values[i]! : 0);
    counts[i + 1] = counts[i]! + (known ? 1 : 0);
  }
  const half = Math.floor(window / 2);
  const smoothed = new Array<number>(values.length);
  for (let i = 0; i < values.length; i++) {
    const before = Math.min(half, i);
    const [first, end] = [i - before, Math.min(values.length, i + before + 1)];
    smoothed[i] = (sums[end]! - sums[first]!) / (counts[end]! - counts[first]!); // NaN if there is none
  }
  return { iters, values: smoothed };
}

/** The index of the first one that is at least `from`. */
function firstFrom(iters: readonly number[], from: number): number {
  let [low, high] = [0, iters.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (iters[middle]! < from) low = middle + 1;
    else high = middle;
  }
  return low;
}
