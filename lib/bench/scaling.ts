// How the cost of a training step grows with each size: layers, width, block length, batch. One size at a time is changed around the
// given shape. Every point is a separate process, so that its memory can be measured; the points are measured in rounds, so that a
// slowdown of the machine affects all of them.
//
//   npx tsx bench.ts --benchmark=scaling --factors=0.5,1,2,4 --to=docs/validation/scaling     # also writes a .md and an .svg
//
// The exponent of an axis is the k of cost = a size^k that fits its points best. It is local: as the parts of a
// step grow differently (weights, attention, overhead), it drifts with the size.

import { fitExponent, median, round } from "../common/statistics.ts";
import { type Benchmark, type Metric, metric } from "./benchmark.ts";
import { runStep } from "./child.ts";
import { prepareTo } from "./report.ts";
import * as report from "./scaling_report.ts";
import { AXES, type Axis, COSTS, type Cost, type Point, type Scaling, type Shape } from "./scaling_report.ts";

export const scaling: Benchmark = async (settings, progress) => {
  const { n_layer, n_head, n_embd, block_size, batch_size, rounds } = settings;
  const base: Shape = { n_layer, n_head, n_embd, block_size, batch_size };
  if (settings.to !== "") prepareTo(settings.to);
  const points = new Map<string, Point>();
  const axes = Object.fromEntries(
    AXES.map((axis) => [
      axis,
      shapesAlong(base, axis, settings.factors).map((shape) => {
        const key = JSON.stringify(shape); // the given shape is on every axis but measured once
        const point = points.get(key) ?? { shape, runs: [] };
        points.set(key, point);
        return point;
      }),
    ]),
  ) as Record<Axis, Point[]>;

  // 1) measure
  let done = 0;
  for (let turn = 0; turn < rounds; turn++) {
    for (const { shape, runs } of points.values()) {
      const run = await runStep(settings, { ...shape, micro_batch_size: 0 }); // one that fits each batch
      runs.push(run);
      const cost = `${run.ms_median.toFixed(1)} ms, ${run.peak_rss_mb.toFixed(0)} MB`;
      progress(`scaling ${++done}/${rounds * points.size}: ${changes(base, shape) || "the given shape"}: ${cost}`);
    }
  }

  // 2) fit, round by round: their spread is the noise
  const exponents = Object.fromEntries(
    AXES.map((axis) => [
      axis,
      { time: exponentOf(axis, "time", axes[axis]), memory: exponentOf(axis, "memory", axes[axis]) },
    ]),
  ) as Scaling["exponents"];
  const result: Scaling = { base, axes, exponents };

  // 3) report
  const peak = report.peakOf(result);
  const metrics = AXES.flatMap((axis) => Object.values(exponents[axis])).filter(({ value }) => Number.isFinite(value));
  for (const { shape, runs } of points.values()) {
    const at = changes(base, shape) || "base";
    const values = (key: "ms_median" | "ms_min" | "peak_rss_mb") => runs.map((run) => run[key]);
    const shares = runs.map((run) => report.shareOfPeak(run, peak));
    metrics.push(metric(`ms_min[${at}]`, "ms", "lower", values("ms_min")));
    metrics.push(metric(`ms_median[${at}]`, "ms", "lower", values("ms_median")));
    metrics.push(metric(`peak_rss_mb[${at}]`, "MB", "lower", values("peak_rss_mb")));
    metrics.push(metric(`mfu[${at}]`, "", "higher", shares));
  }
  const { device } = [...points.values()][0]!.runs[0]!;
  const summary = [`device:      ${device}`, ...report.table(result)];
  if (settings.to !== "") summary.push(`wrote:       ${(await report.writeScaling(result, settings)).join(", ")}`);
  return {
    metrics,
    facts: { device, peak_gflops: peak, ...base, vocab_size: settings.vocab_size, steps: settings.steps, rounds },
    summary,
  };
};

/** The base with one size times each of the factors, smallest first. The width changes by whole heads of the base's
 * width, as larger models have more heads, not wider ones. */
export function shapesAlong(base: Shape, axis: Axis, factors: readonly number[]): Shape[] {
  const unit = axis === "n_embd" ? base.n_embd / base.n_head : 1;
  const counts = factors.map((factor) => Math.max(1, Math.round((factor * base[axis]) / unit)));
  return [...new Set(counts)]
    .sort((a, b) => a - b)
    .map((count) => ({ ...base, [axis]: count * unit, ...(axis === "n_embd" && { n_head: count }) }));
}

/** How a shape differs from the base, such as "n_layer=8"; heads follow from the width. */
function changes(base: Shape, shape: Shape): string {
  return AXES.filter((axis) => shape[axis] !== base[axis])
    .map((axis) => `${axis}=${shape[axis]}`)
    .join(" ");
}

/** The exponent of the medians over all rounds, with those of the single rounds as samples. */
function exponentOf(axis: Axis, cost: Cost, points: readonly Point[]): Metric {
  const fit = (take: (values: number[]) => number) =>
    fitExponent(points.map(({ shape, runs }) => [shape[axis], take(runs.map(COSTS[cost]))] as const));
  const rounds = points[0]!.runs.map((_, turn) => fit((values) => values[turn]!));
  return { ...metric(`${cost}_exponent[${axis}]`, "", "lower", rounds), value: round(fit(median)) };
}
