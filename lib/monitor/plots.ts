// Pictures of runs as SVG: pure functions of their histories (metrics_file.ts), of figures to be compared, and of a
// model's attention. However long a run, its picture is small: points that no pixel can show are left out.
//
//   const svg = plotTrainingCurves([{ name: "out-a", history: readHistory("out-a") }]);
//   await writePlot("out-a", "training_curves", svg);   // draw.ts

import type { CustomSeriesRenderItemAPI, CustomSeriesRenderItemReturn } from "echarts";
import { short, significant, whole } from "../common/format.ts";
import { quantile } from "../common/statistics.ts";
import { colorOf, drawSvg, FONT, INK, type Option, PALE, PALETTE, textWidth } from "./draw.ts";
import type { History, Series } from "./metrics_file.ts";
import { smooth, thin } from "./thin.ts";

/** A run, and its name in a picture. */
export interface NamedRun {
  name: string;
  history: History;
}

const WIDTH = 840;
const HEIGHT = 440;
const BUCKETS = 400; // of a line: two points each
const SMOOTH = 0.02; // the share of a run's steps that a point of a smoothed line is the mean of

// ---- lines over the steps ----

interface Line {
  name: string;
  series: Series | undefined;
  color: string;
  width?: number;
  opacity?: number;
  type?: "solid" | "dashed" | "dotted";
  points?: boolean; // mark each point, if there are few
}

interface Chart {
  title: string;
  unit: string; // of the values, with their name: "loss (nats per token)"
  format?: (value: number) => string;
  zero?: boolean; // the axis begins at 0
  max?: number;
  legend: string[]; // names of lines
  end: number; // the last step
}

function drawLines(lines: readonly Line[], chart: Chart): string {
  const { title, unit, format = significant, legend } = chart;
  const option: Option = {
    title: titleOf(title),
    legend: { top: 40, left: "center", width: WIDTH - 40, itemGap: 18, itemWidth: 28, itemHeight: 2, data: legend },
    grid: { left: 74, right: 36, top: 48 + 28 * legendRows(legend), bottom: 52 },
    xAxis: { ...axis("step", 30), min: 0, max: Math.max(1, chart.end), axisLabel: { hideOverlap: true } },
    yAxis: {
      ...axis(unit, 56),
      scale: !chart.zero,
      axisLabel: { formatter: format },
      ...(chart.max === undefined ? {} : { max: chart.max }),
    },
    series: lines.map(({ name, series, color, width = 2, opacity = 1, type = "solid", points }) => ({
      name,
      type: "line",
      data: series ? pointsOf(series) : [],
      silent: true,
      symbol: points && (series?.iters.length ?? 0) <= 60 ? "circle" : "none",
      symbolSize: 5,
      itemStyle: { color, opacity },
      lineStyle: { width, color, opacity, type },
    })),
  };
  return drawSvg(option, { width: WIDTH, height: HEIGHT });
}

/** As many points as pixels can show; NaN is a gap. */
function pointsOf(series: Series): (number | null)[][] {
  const { iters, values } = thin(series, { from: -Infinity, to: Infinity }, BUCKETS);
  return iters.map((iter, i) => [iter, values[i] === null ? null : Number(values[i]!.toPrecision(6))]);
}

const endOf = (runs: readonly NamedRun[]) => Math.max(0, ...runs.map(({ history }) => history.iter));

const smoothed = (series: Series | undefined) =>
  series && smooth(series, Math.max(5, Math.round(SMOOTH * series.iters.length)));

const titleOf = (text: string) => ({
  text,
  left: "center",
  top: 10,
  textStyle: { fontSize: 15, fontWeight: "bold" as const, color: INK },
});

const axis = (name: string, gap: number) => ({
  type: "value" as const,
  name,
  nameLocation: "middle" as const,
  nameGap: gap,
  nameTextStyle: { fontSize: 12, color: INK },
  splitLine: { lineStyle: { color: "#e6e6e6" } },
});

/** How many lines a legend takes. */
function legendRows(names: readonly string[]): number {
  let [rows, filled] = [names.length > 0 ? 1 : 0, 0];
  for (const name of names) {
    const item = 28 + 5 + textWidth(name, 12) + 18;
    if (filled > 0 && filled + item > WIDTH - 40) [rows, filled] = [rows + 1, 0];
    filled += item;
  }
  return rows;
}

/**
 * Loss over the steps: of each step (pale), smoothed, and the estimates on both splits. For several runs the steps' losses are left
 * out if there are estimates.
 */
export function plotTrainingCurves(runs: readonly NamedRun[], options: { title?: string } = {}): string {
  const chart = { unit: "loss (nats per token)", end: endOf(runs) };
  const [first] = runs;
  if (first && runs.length === 1) {
    const { series } = first.history;
    const loss = series.get("loss");
    const all: Line[] = [
      { name: "each step", series: loss, color: PALE, width: 1 },
      { name: "each step, smoothed", series: smoothed(loss), color: "#777777", width: 1.5 },
      { name: "train, estimated", series: series.get("train/loss"), color: PALETTE[0], points: true },
      { name: "validation", series: series.get("val/loss"), color: PALETTE[1], points: true },
    ];
    const lines = all.filter(({ series }) => series);
    const legend = lines.map(({ name }) => name);
    return drawLines(lines, { title: `Training of ${first.name}`, ...options, ...chart, legend, ...ceiling(lines) });
  }
  const kinds: Line[] = [
    { name: "validation", series: undefined, color: "#777777" },
    { name: "train", series: undefined, color: "#777777", width: 1.5, type: "dashed" },
  ];
  const lines = runs.flatMap(({ name, history: { series } }, i): Line[] => {
    const train = series.get("train/loss") ?? smoothed(series.get("loss"));
    const color = colorOf(i);
    return [
      { name, series: series.get("val/loss"), color, points: true },
      { name: `${name} (train)`, series: train, color, width: 1.5, type: "dashed", opacity: 0.8 },
    ];
  });
  const legend = [...runs.map(({ name }) => name), ...kinds.map(({ name }) => name)];
  return drawLines([...lines, ...kinds], { title: "Training curves", ...options, ...chart, legend, ...ceiling(lines) });
}

/** The few huge losses of a diverging run must not flatten all the others. */
function ceiling(lines: readonly Line[]): { max?: number } {
  const values = lines.flatMap(({ series }) => series?.values ?? []).filter(Number.isFinite);
  const [usual, highest] = [quantile(values, 0.98), values.reduce((a, b) => Math.max(a, b), 0)];
  const start = Math.max(...lines.map(({ series }) => series?.values[0] ?? 0).filter(Number.isFinite), 0);
  const limit = 1.2 * Math.max(usual, start);
  return highest > 2 * limit && limit > 0 ? { max: Number(limit.toPrecision(2)) } : {};
}

/** The learning rate over the steps. */
export function plotLearningRate(runs: readonly NamedRun[]): string {
  const lines = runs.map(({ name, history }, i) => ({ name, series: history.series.get("lr"), color: colorOf(i) }));
  const legend = runs.length > 1 ? runs.map(({ name }) => name) : [];
  const title = runs.length === 1 ? `Learning rate of ${runs[0]!.name}` : "Learning rate";
  return drawLines(lines, { title, unit: "learning rate", zero: true, legend, end: endOf(runs) });
}

/** Tokens/s over the steps, with the mean, the median (p50) and the speed that 95 % of the steps reach. */
export function plotThroughput(runs: readonly NamedRun[]): string {
  const chart = { unit: "tokens/s", zero: true, format: short, end: endOf(runs) };
  const [first] = runs;
  if (first && runs.length === 1) {
    const speed = first.history.series.get("tokens_per_s");
    const lines: Line[] = [
      { name: "each step", series: speed, color: PALE, width: 1 },
      { name: "smoothed", series: smoothed(speed), color: PALETTE[0] },
    ];
    for (const [i, [name, value]] of Object.entries(speeds(first.history)).entries()) {
      const series = { iters: [0, chart.end], values: [value, value] };
      const type = (["solid", "dashed", "dotted"] as const)[i]!;
      lines.push({ name: `${name} ${short(value)}`, series, color: INK, width: 1.2, type });
    }
    const legend = lines.map(({ name }) => name);
    return drawLines(lines, { title: `Throughput of ${first.name}`, ...chart, legend });
  }
  const lines = runs.map(({ name, history }, i) => {
    const figures = Object.entries(speeds(history)).map(([key, value]) => `${key} ${short(value)}`);
    const series = smoothed(history.series.get("tokens_per_s"));
    return { name: [`${name}:`, figures.join(", ")].join(" "), series, color: colorOf(i) };
  });
  const legend = lines.map(({ name }) => name);
  return drawLines(lines, { title: "Throughput, smoothed", ...chart, legend });
}

/** Over the whole run, in tokens/s. The mean is all tokens over their total time, not the mean of the steps' speeds. */
function speeds({ series }: History): Record<string, number> {
  const values = (series.get("tokens_per_s")?.values ?? []).filter((value) => value > 0);
  if (values.length === 0) return {};
  const mean = values.length / values.reduce((sum, value) => sum + 1 / value, 0); // as many tokens each step
  return { mean, p50: quantile(values, 0.5), p95: quantile(values, 0.05) };
}

// ---- bars ----

const TIMES = ["data", "compute", "update", "evaluate", "checkpoint", "other"];

/** The shares of each run's time, by activity. */
export function plotTimeSplit(runs: readonly NamedRun[]): string {
  const seconds = runs.map(({ history }) =>
    TIMES.map((name) => (history.series.get(`time/${name}`)?.values ?? []).reduce((sum, value) => sum + value, 0)),
  );
  const totals = seconds.map((row) => row.reduce((sum, value) => sum + value, 0));
  const labels = runs.map(({ name }, i) => `${name}\n${significant(totals[i]!)} s`);
  const option: Option = {
    title: titleOf("Where the time went"),
    legend: { top: 40, left: "center", itemGap: 18, data: TIMES },
    grid: { left: marginOf(labels), right: 28, top: 74, bottom: 48 },
    xAxis: { ...axis("share of the time (%)", 28), min: 0, max: 100 },
    yAxis: { type: "category", inverse: true, data: labels, axisTick: { show: false }, axisLabel: { lineHeight: 15 } },
    series: TIMES.map((name, part) => ({
      name,
      type: "bar",
      stack: "time",
      silent: true,
      barMaxWidth: 26,
      itemStyle: { color: colorOf(part) },
      data: seconds.map((row, i) => share(row[part]!, totals[i]!)),
      label: {
        show: true,
        color: part < 3 ? "#ffffff" : INK,
        fontSize: 11,
        formatter: ({ value }: { value?: unknown }) => (Number(value) >= 5 ? `${Number(value).toFixed(0)} %` : ""),
      },
    })),
  };
  return drawSvg(option, { width: WIDTH, height: 130 + 46 * runs.length });
}

const share = (part: number, total: number) => (total > 0 ? (100 * part) / total : 0);
const marginOf = (labels: readonly string[]) =>
  24 + Math.max(0, ...labels.flatMap((label) => label.split("\n")).map((line) => textWidth(line, 12)));

/** A figure to compare: the mean over seeds, for example, and their spread. */
export interface Compared {
  label: string;
  mean: number;
  spread?: number; // such as a standard deviation; in the mean's unit
}

export interface ComparisonOptions {
  title?: string;
  unit: string; // what is compared: "validation loss (nats per token)"
  better: "lower" | "higher";
}

/**
 * A bar for each figure, with its spread, the best one marked. If all are so close that bars from 0 would look the same, points
 * instead, on an axis that does not begin at 0.
 */
export function plotComparison(all: readonly Compared[], { title, unit, better }: ComparisonOptions): string {
  const finite = all.map(({ mean }) => mean).filter(Number.isFinite);
  const best = better === "lower" ? Math.min(...finite) : Math.max(...finite);
  const isClose = finite.length > 1 && Math.min(...finite) > 0.7 * Math.max(...finite);
  const text = ({ mean, spread }: Compared) => withSpread(mean, spread) + (mean === best ? " (best)" : "");
  const labels = all.map(({ label, mean }) => (Number.isFinite(mean) ? label : `${label} (not a number)`));
  const right = 28 + Math.max(0, ...all.map((item) => textWidth(text(item), 12)));
  const data = all.map(({ mean }) => ({
    value: Number.isFinite(mean) ? mean : null,
    itemStyle: { color: mean === best ? PALETTE[1] : PALETTE[0], opacity: 1 },
  }));
  const common = { silent: true, data, z: 2 };
  const option: Option = {
    title: titleOf(title ?? `Comparison: ${unit}`),
    grid: { left: marginOf(labels), right, top: 48, bottom: 52 },
    xAxis: {
      ...axis(`${unit}, ${better} is better`, 30),
      axisLabel: { formatter: figure, hideOverlap: true },
      scale: isClose,
      boundaryGap: isClose ? ["8%", "8%"] : [0, "4%"],
    },
    yAxis: { type: "category", inverse: true, data: labels, axisTick: { show: false } },
    series: [
      isClose
        ? { ...common, type: "scatter", symbolSize: 11 }
        : { ...common, type: "bar", barMaxWidth: 20, itemStyle: { borderRadius: [0, 2, 2, 0] } },
      {
        type: "custom",
        silent: true,
        z: 3,
        data: all.map(({ mean, spread = 0 }, i) => [mean - spread, i, mean + spread]),
        renderItem: (_, api) => errorBar(api, text(all[Number(api.value(1))]!)),
        encode: { x: [0, 2], y: 1 },
      },
    ],
  };
  return drawSvg(option, { width: WIDTH, height: 110 + 34 * all.length });
}

const figure = (value: number) => (Math.abs(value) >= 1000 ? whole(value) : significant(value));

/** Both rounded to the digits that the spread leaves certain: "1.682 ± 0.009". */
function withSpread(mean: number, spread: number | undefined): string {
  if (!spread) return figure(mean);
  const digits = Math.min(8, Math.max(0, 1 - Math.floor(Math.log10(spread))));
  const format = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return [mean, spread].map((value) => value.toLocaleString("en-US", format)).join(" ± ");
}

/** An error bar from low to high, with a text after it. */
function errorBar(api: CustomSeriesRenderItemAPI, text: string): CustomSeriesRenderItemReturn {
  const [low, row, high] = [0, 1, 2].map((dimension) => Number(api.value(dimension))) as [number, number, number];
  if (!Number.isFinite(low)) return { type: "group", children: [] };
  const [left, y] = api.coord([low, row]) as [number, number];
  const [right] = api.coord([high, row]) as [number, number];
  const line = (x1: number, y1: number, x2: number, y2: number) => ({
    type: "line" as const,
    shape: { x1, y1, x2, y2 },
    style: { stroke: INK, lineWidth: 1.5 },
  });
  const strokes =
    right > left ? [line(left, y, right, y), line(left, y - 5, left, y + 5), line(right, y - 5, right, y + 5)] : [];
  const label = {
    type: "text" as const,
    style: { text, x: right + 12, y, textVerticalAlign: "middle" as const, fill: INK, fontSize: 12, fontFamily: FONT },
  };
  return { type: "group", children: [...strokes, label] };
}

// ---- attention ----

/** For weights from 0 to 1 in equal steps; those of a long text are small, so most of the change is there. */
const BLUES = ["#ffffff", "#b7d4ea", "#85bcdc", "#5ba3cf", "#3c8bc3", "#2171b5", "#1561a9", "#0a4a90", "#08306b"];

/** More tokens than this can't be told apart in a picture. */
export const MOST_TOKENS = 64;

export interface AttentionMap {
  tokens: readonly string[]; // T texts
  weights: Float32Array; // [H, T, T]: the weight of each position (column) for a query (row)
  layer: number;
}

/** How much each token attends to those before it: a map for each head of a layer. */
export function plotAttention({ tokens, weights, layer }: AttentionMap): string {
  const T = tokens.length;
  const H = weights.length / (T * T);
  const labels = tokens.map(visible);
  const columns = Math.min(H, H <= 4 ? 2 : H <= 9 ? 3 : 4);
  const cell = Math.max(9, Math.min(26, 260 / T)); // a label's height fits
  const side = cell * T;
  const fontSize = Math.min(12, cell - 1);
  const margin = 10 + Math.max(...labels.map((label) => textWidth(label, fontSize)));
  const [panelWidth, panelHeight] = [side + margin + 16, side + margin + 34];
  const rows = Math.ceil(H / columns);
  const [left, top] = [20, 66];
  const width = Math.max(400, left + columns * panelWidth + 78);
  const height = Math.max(260, top + rows * panelHeight + 8);
  const place = (head: number) => ({
    x: left + (head % columns) * panelWidth + margin,
    y: top + Math.floor(head / columns) * panelHeight + 22,
  });
  const heads = Array.from({ length: H }, (_, head) => head);
  const category = { type: "category" as const, data: labels, axisTick: { show: false }, axisLine: { show: false } };
  const axisLabel = { interval: 0, fontSize, color: INK, margin: 4 };
  const turned = labels.some((label) => textWidth(label, fontSize) > cell);
  const option: Option = {
    title: [
      {
        ...titleOf(`Attention in layer ${layer}`),
        subtext: "row: the token that looks; column: the one looked at",
        subtextStyle: { fontSize: 12, color: INK },
      },
      ...heads.map((head) => ({
        text: `head ${head}`,
        left: place(head).x + side / 2,
        top: place(head).y - 22,
        textAlign: "center" as const,
        padding: 0,
        textStyle: { fontSize: 12, fontWeight: "normal" as const, color: INK },
      })),
    ],
    grid: heads.map((head) => ({
      left: place(head).x,
      top: place(head).y,
      width: side,
      height: side,
      show: true,
      z: 5, // the border above the cells
      borderColor: "#cccccc",
    })),
    xAxis: heads.map((gridIndex) => ({ ...category, gridIndex, axisLabel: { ...axisLabel, rotate: turned ? 90 : 0 } })),
    yAxis: heads.map((gridIndex) => ({ ...category, gridIndex, inverse: true, axisLabel })),
    visualMap: {
      type: "continuous",
      min: 0,
      max: 1,
      right: 12,
      top: place(0).y,
      itemHeight: Math.min(160, height - top - 76),
      itemWidth: 14,
      precision: 1,
      text: ["1", "0"],
      inRange: { color: BLUES },
    },
    series: heads.map((head) => ({
      type: "heatmap",
      xAxisIndex: head,
      yAxisIndex: head,
      silent: true,
      data: cells(weights.subarray(head * T * T, (head + 1) * T * T), T),
    })),
  };
  return drawSvg(option, { width, height });
}

/** [column, row, weight] of attention weights; invisibly small ones are left out. */
function cells(map: Float32Array, T: number): number[][] {
  const all = Array.from(map, (weight, i) => [i % T, Math.floor(i / T), Number(weight.toFixed(3))]);
  return all.filter(([, , weight]) => weight! >= 0.008);
}

/** A token's text with a symbol for each invisible character. */
export function visible(token: string): string {
  const signs: Record<string, string> = { "\n": "⏎", "\r": "␍", "\t": "⇥", " ": "·" };
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return token.replaceAll(/[\u0000-\u0020]/g, (character) => signs[character] ?? "\uFFFD");
}
