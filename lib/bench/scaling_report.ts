// The results of the scaling benchmark as a table, a picture and a page with both.

import { basename } from "node:path";

import { writeResult } from "../common/atomic.ts";
import { alignTable, whole } from "../common/format.ts";
import { median } from "../common/statistics.ts";
import type { Option } from "../monitor/draw.ts";
import type { Metric } from "./benchmark.ts";
import type { StepRun } from "./child.ts";
import { machineOf, versions } from "./report.ts";
import type { BenchSettings } from "./settings.ts";

export const AXES = ["n_layer", "n_embd", "block_size", "batch_size"] as const;
export type Axis = (typeof AXES)[number];
export type Shape = Record<Axis | "n_head", number>;

/** A shape, and the figures of its runs. */
export interface Point {
  shape: Shape;
  runs: StepRun[];
}

/** The kinds of cost: the name in the figures, and how to get it from a run. */
export const COSTS = {
  time: (run: StepRun) => run.ms_min, // of a run's fastest step, as other load only slows one down
  memory: (run: StepRun) => run.peak_rss_mb - run.rss_import_mb, // MB beyond Node and the libraries
} as const;
export type Cost = keyof typeof COSTS;

export interface Scaling {
  base: Shape;
  axes: Record<Axis, Point[]>; // by size
  exponents: Record<Axis, Record<Cost, Metric>>;
}

const HEAD = ["changed", "fastest ms", "median ms", "tokens/s", "of the peak", "peak MB", "step MB", "at once"];

/** The points of every axis and its exponents, in columns. */
export function table(scaling: Scaling): string[] {
  const peak = peakOf(scaling);
  const rows = AXES.flatMap((axis) => [
    ...scaling.axes[axis].map((point) => cells(axis, point, peak)),
    exponentCells(scaling, axis),
  ]);
  return alignTable([HEAD, ...rows]).split("\n");
}

/** The machine's peak rate in GFLOP/s: the highest of all runs. */
export function peakOf(scaling: Scaling): number {
  return Math.max(
    ...AXES.flatMap((axis) => scaling.axes[axis].flatMap(({ runs }) => runs.map((run) => run.peak_gflops))),
  );
}

/** The share of the peak rate, 0 to 1, that the fastest step of a run reached. A run's own mfu is that of its median step, relative to
 * the peak that this run measured. */
export function shareOfPeak(run: StepRun, peak: number): number {
  return run.mfu * (run.ms_median / run.ms_min) * (run.peak_gflops / peak);
}

function cells(axis: Axis, { shape, runs }: Point, peak: number): string[] {
  const middle = (of: (run: StepRun) => number) => median(runs.map(of));
  const ms = middle(COSTS.time);
  return [
    `${axis} ${shape[axis]}`,
    ms.toFixed(1),
    middle((run) => run.ms_median).toFixed(1),
    whole((shape.batch_size * shape.block_size) / (ms / 1000)),
    `${(100 * middle((run) => shareOfPeak(run, peak))).toFixed(0)} %`,
    middle((run) => run.peak_rss_mb).toFixed(0),
    middle(COSTS.memory).toFixed(0),
    `${runs[0]!.micro_batch_size}`,
  ];
}

function exponentCells({ exponents }: Scaling, axis: Axis): string[] {
  const { time, memory } = exponents[axis];
  return [`  exponent of ${axis}`, exponent(time.value), "", "", "", "", exponent(memory.value), ""];
}

function exponent(value: number): string {
  return Number.isFinite(value) ? value.toFixed(2) : "-";
}

/** Write TO.svg and TO.md. @returns their names */
export async function writeScaling(scaling: Scaling, settings: BenchSettings): Promise<string[]> {
  const [svg, page] = [`${settings.to}.svg`, `${settings.to}.md`];
  const what = `can't write ${svg} and ${page}`;
  writeResult(svg, await picture(scaling), what);
  writeResult(page, markdown(scaling, settings, basename(svg)), what);
  return [svg, page];
}

function markdown(scaling: Scaling, settings: BenchSettings, svg: string): string {
  const { base, axes } = scaling;
  const { cpu, cores, memory_gb, platform } = machineOf();
  const { node, onnxruntime, commit } = versions();
  const shape = `${base.n_layer} layers, ${base.n_head} heads, ${base.n_embd} wide, block ${base.block_size}, batch ${base.batch_size}`;
  const row = (values: string[]) => `| ${values.join(" | ")} |`;
  const peak = peakOf(scaling);
  const peaks = AXES.flatMap((axis) => axes[axis].flatMap(({ runs }) => runs.map((run) => run.peak_gflops)));
  const spreads = AXES.flatMap((axis) => axes[axis].map(({ runs }) => spread(runs.map(COSTS.time))));
  return `${[
    "# How cost grows",
    "",
    "Time and memory of a training step against layers, width, block length and batch, one changed at a time around",
    `${shape} (${settings.vocab_size} tokens in the vocabulary).`,
    "Written by `lib/bench/scaling.ts`; write it again with:",
    "",
    "```sh",
    `npx tsx bench.ts ${process.argv.slice(2).join(" ")}`,
    "```",
    "",
    `![time, memory and share of the peak rate against each size](${svg})`,
    "",
    row(["changed", "step time", "memory of the step"]),
    row(["---", "---:", "---:"]),
    ...AXES.map((axis) => {
      const { time, memory } = scaling.exponents[axis];
      return row([`\`${axis}\``, `size^${exponent(time.value)}`, `size^${exponent(memory.value)}`]);
    }),
    "",
    "An exponent is the slope of the line that fits the points best in a plot of logarithms: where the size doubles, the",
    "cost doubles with an exponent of 1 and is four times as much with 2. It holds for the range measured. The memory of",
    "the step is the process' peak less what Node and the libraries hold before there is a model; that floor would hide",
    "all growth in small models.",
    "",
    row([
      "",
      "fastest step, ms",
      "median, ms",
      "tokens/s",
      "share of peak rate",
      "peak MB",
      "of these the step's",
      "sequences at once",
    ]),
    row(["---", "---:", "---:", "---:", "---:", "---:", "---:", "---:"]),
    ...AXES.flatMap((axis) => axes[axis].map((point) => row(cells(axis, point, peak)))),
    "",
    "Times, tokens/s and shares are those of the fastest step of a run, since whatever else the machine does only ever",
    "makes a step longer; beside them the median step. The share of the peak rate is what the model needs (6 operations a",
    "weight and token, and attention's) over the best that this machine did in a matrix product of 1024 x 1024.",
    "",
    "Larger batches and blocks are computed a few sequences at once (the last column), so that activations stay near the",
    "caches: beyond about 1,024 tokens their memory does not grow with the batch any more. Width grows by whole heads.",
    "",
    `Measured on ${cpu}, ${cores} cores, ${memory_gb} GB, ${platform}, Node ${node}, ONNX Runtime ${onnxruntime}` +
      `${commit ? `, commit ${commit}` : ""}, ${new Date().toISOString().slice(0, 10)}:`,
    `medians of ${settings.rounds} rounds of ${settings.steps} steps, each a process of its own. Noise: half of a point's rounds lie within`,
    `${(100 * median(spreads)).toFixed(0)} % of its time (at the worst point ${(100 * Math.max(...spreads)).toFixed(0)} %), and the rate of the matrix product was from`,
    `${Math.min(...peaks).toFixed(0)} to ${Math.max(...peaks).toFixed(0)} GFLOP/s. MB are 2^20 bytes.`,
  ].join("\n")}\n`;
}

/** The distance from the median within which half of the values lie, relative to it. */
function spread(values: readonly number[]): number {
  const middle = median(values);
  return median(values.map((value) => Math.abs(value - middle))) / middle;
}

/** Three panels against the factor of the size, all axes in each: time, memory, share of the peak rate. */
async function picture(scaling: Scaling): Promise<string> {
  const { colorOf, drawSvg } = await import("../monitor/draw.ts");
  const legend = (axis: Axis) => {
    const of = (cost: Cost) => exponent(scaling.exponents[axis][cost].value);
    return `${axis}: time ^${of("time")}, memory ^${of("memory")}`;
  };
  const peak = peakOf(scaling);
  const panels = [
    { title: "step time (ms)", value: COSTS.time, log: true },
    { title: "memory of the step (MB)", value: COSTS.memory, log: true },
    { title: "share of the peak rate (%)", value: (run: StepRun) => 100 * shareOfPeak(run, peak), log: false },
  ];
  const factors = AXES.flatMap((axis) => scaling.axes[axis].map(({ shape }) => shape[axis] / scaling.base[axis]));
  const [width, left, gap] = [990, 56, 60];
  const panelWidth = (width - left - 20 - 2 * gap) / 3;
  const place = (i: number) => left + i * (panelWidth + gap);
  const option: Option = {
    legend: { bottom: 6, left: "center", width: 640, itemGap: 14, data: AXES.map(legend) },
    title: panels.map(({ title }, i) => ({
      text: title,
      left: place(i) + panelWidth / 2,
      top: 8,
      textAlign: "center" as const,
      textStyle: { fontSize: 14, fontWeight: "normal" as const },
    })),
    grid: panels.map((_, i) => ({ left: place(i), width: panelWidth, top: 44, bottom: 112 })),
    xAxis: panels.map((_, i) => ({
      gridIndex: i,
      type: "log" as const,
      logBase: 2,
      min: Math.min(...factors),
      max: Math.max(...factors),
      name: "times the base's size",
      nameLocation: "middle" as const,
      nameGap: 28,
      splitLine: { show: false },
    })),
    yAxis: panels.map(({ log, value }, i) => {
      if (!log) return { gridIndex: i, type: "value" as const, min: 0 };
      const all = AXES.flatMap((axis) => scaling.axes[axis].map(({ runs }) => median(runs.map(value))));
      return { gridIndex: i, type: "log" as const, logBase: 2, ...powersAround(all) };
    }),
    series: panels.flatMap(({ value }, i) =>
      AXES.map((axis, color) => ({
        name: legend(axis),
        type: "line" as const,
        xAxisIndex: i,
        yAxisIndex: i,
        symbolSize: 6,
        itemStyle: { color: colorOf(color) },
        lineStyle: { width: 2, color: colorOf(color) },
        data: scaling.axes[axis].map(({ shape, runs }) => [shape[axis] / scaling.base[axis], median(runs.map(value))]),
      })),
    ),
  };
  return drawSvg(option, { width, height: 406 });
}

/** The powers of 2 that enclose all values: the ends of an axis. */
function powersAround(values: readonly number[]): { min: number; max: number } {
  const logs = values.filter((value) => value > 0).map(Math.log2);
  return { min: 2 ** Math.floor(Math.min(...logs)), max: 2 ** Math.ceil(Math.max(...logs)) };
}
