// The page's charts: lines over steps, and bars of where the time goes. They show given data; a range that is dragged
// across a chart is reported to its owner. All words are drawn or set as text, never parsed as HTML.

import { BarChart, LineChart as Lines } from "echarts/charts";
import { GridComponent, TooltipComponent } from "echarts/components";
import { type EChartsType, init, use } from "echarts/core";
import { CanvasRenderer } from "echarts/renderers";

import { percent, short, significant, whole } from "../../lib/common/format.ts";
import type { Points, Range } from "../../lib/monitor/thin.ts";
import type { TimeSplit } from "./server.ts";

use([Lines, BarChart, GridComponent, TooltipComponent, CanvasRenderer]);

const MOST_NAMES = 8; // in a legend and beside the pointer
const LEAST_DRAG = 5; // pixels

export interface Line {
  name: string;
  run?: string; // the run of the line, if its colour identifies it
  color: string;
  points: Points;
  look: "faint" | "plain" | "bold" | "marks";
}

/** Create an element with text. */
export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  className = "",
  textContent = "",
): HTMLElementTagNameMap[K] {
  return Object.assign(document.createElement(tag), { className, textContent });
}

/** A colour or font of page.css. */
export function style(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** A box with a title, a legend and a chart of the box' width. */
class Chart {
  readonly box: HTMLElement;
  readonly chart: EChartsType;
  readonly #legend = element("ul", "legend");
  readonly title: string;
  readonly #said: string; // before what is said of the lines
  protected readonly place = element("div", "place");
  readonly #gone = new AbortController();
  #shown = "";

  constructor(parent: HTMLElement, title: string, unit: string, wide: boolean) {
    const box = element("figure", wide ? "card wide" : "card");
    this.box = box;
    const caption = element("figcaption");
    caption.append(element("h3", "", title), element("span", "quiet", unit));
    box.append(caption, this.#legend, this.place);
    parent.append(box);
    this.title = title;
    this.#said = unit ? `${title}, ${unit}` : title;
    this.place.role = "img";
    this.chart = init(this.place);
    const observer = new ResizeObserver(() => this.chart.resize());
    observer.observe(this.place);
    this.whenGone.addEventListener("abort", () => observer.disconnect());
  }

  protected get whenGone(): AbortSignal {
    return this.#gone.signal;
  }

  remove(): void {
    this.#gone.abort();
    this.chart.dispose();
    this.box.remove();
  }

  /** The description of the lines, for screen readers. */
  protected explain(names: readonly { name: string; color: string; look: string }[], said: string): void {
    this.place.setAttribute("aria-label", `${this.#said}. ${said}`);
    const many = names.length > MOST_NAMES;
    const shown = many ? [names[0]!, names.at(-1)!] : names.length > 1 ? names : [];
    const key = JSON.stringify([many, shown]);
    if (key === this.#shown) return;
    this.#shown = key;
    const items = shown.map(({ name, color, look }) => {
      const item = element("li");
      const swatch = element("span", `swatch ${look}`);
      swatch.style.setProperty("--color", color);
      item.append(swatch, name);
      return item;
    });
    if (many) items.splice(1, 0, element("li", "", `… ${names.length - 2} between …`));
    this.#legend.replaceChildren(...items);
  }

  protected look() {
    const [text, quiet, line, card] = ["--text", "--quiet", "--line", "--card"].map(style);
    const font = { color: quiet!, fontFamily: style("--font"), fontSize: 12 };
    return {
      axis: {
        axisLabel: font,
        nameTextStyle: font,
        axisLine: { onZero: false, lineStyle: { color: quiet! } },
        axisTick: { lineStyle: { color: quiet! } },
        splitLine: { lineStyle: { color: line! } },
      },
      tooltip: {
        trigger: "axis" as const,
        renderMode: "richText" as const, // drawn: no HTML
        confine: true,
        transitionDuration: 0,
        backgroundColor: card!,
        borderColor: line!,
        textStyle: { ...font, color: text! },
      },
    };
  }
}

export class LineChart extends Chart {
  #pointer = 0; // position of the mouse on the y axis
  #lines: readonly Line[] = [];
  #log = false;

  constructor(
    parent: HTMLElement,
    { title, unit = "", wide = false }: { title: string; unit?: string; wide?: boolean },
    onRange: (range: Range | null) => void,
  ) {
    super(parent, title, unit, wide);
    this.#listen(onRange);
  }

  /** @param range of the x axis */
  show(lines: readonly Line[], range: Range, log = false): void {
    [this.#lines, this.#log] = [lines, log];
    const { axis, tooltip } = this.look();
    // too many for a legend: one name per colour
    const runs = lines.length > MOST_NAMES ? new Map(lines.map((line) => [line.run, line])) : undefined;
    const perRun = [...(runs?.entries() ?? [])].map(([run, line]) => ({ ...line, name: run ?? "", look: "bold" }));
    this.explain(
      perRun.length > 1 ? perRun : lines,
      lines.length > MOST_NAMES ? `${lines.length} lines` : lines.map((line) => lastOf(line)).join("; "),
    );
    this.chart.setOption(
      {
        animation: false,
        grid: { left: 4, right: 18, top: 10, bottom: 4, outerBoundsMode: "same", outerBoundsContain: "axisLabel" },
        tooltip: { ...tooltip, formatter: (found: unknown) => this.#describe(found) },
        xAxis: {
          ...axis,
          type: "value",
          min: range.from,
          max: Math.max(range.to, range.from + 1),
          splitNumber: Math.max(2, Math.round(this.chart.getWidth() / 110)),
          minInterval: 1,
          splitLine: { show: false },
          axisLabel: {
            ...axis.axisLabel,
            formatter: (step: number) => (step < 1e5 ? whole(step) : short(step)),
            hideOverlap: true,
            showMaxLabel: false,
            alignMinLabel: "left",
          },
          axisPointer: { lineStyle: { color: axis.axisLabel.color } },
        },
        yAxis: {
          ...axis,
          splitNumber: 5,
          axisLabel: { ...axis.axisLabel, formatter: numbersUpTo(highest(lines)), hideOverlap: true },
          ...scaleOf(lines, log),
        },
        series: lines.map((line) => seriesOf(line, log)),
      },
      { replaceMerge: ["series", "yAxis"] },
    );
  }

  /** The values next to the pointer: of all lines if few, else of the nearest. */
  #describe(found: unknown): string {
    const [{ axisValue }] = found as [{ axisValue: number }];
    const scale = (value: number) => (this.#log ? Math.log(value) : value);
    const rows = this.#lines.flatMap(({ name, points: { iters, values } }) => {
      let near = 0;
      for (const [i, iter] of iters.entries()) {
        if (Math.abs(iter - axisValue) < Math.abs(iters[near]! - axisValue)) near = i;
      }
      const value = values[near];
      if (typeof value !== "number") return [];
      return [{ name, step: iters[near]!, value, distance: Math.abs(scale(value) - scale(this.#pointer)) }];
    });
    const nearest = new Set(rows.toSorted((a, b) => a.distance - b.distance).slice(0, MOST_NAMES));
    const lines = rows
      .filter((row) => nearest.has(row))
      .map(({ name, step, value }) => {
        return `${name}  ${significant(value)}${step === axisValue ? "" : `  (step ${whole(step)})`}`;
      });
    return [`step ${whole(axisValue)}`, ...lines].join("\n");
  }

  #listen(onRange: (range: Range | null) => void): void {
    const zr = this.chart.getZr();
    const mark = element("div", "selection");
    mark.hidden = true;
    this.place.append(mark);
    let begin: number | undefined;
    const inside = (x: number, y: number) => this.chart.containPixel({ gridIndex: 0 }, [x, y]);
    const stepAt = (x: number) => Math.round(this.chart.convertFromPixel({ xAxisIndex: 0 }, x));
    zr.on("mousedown", ({ offsetX, offsetY, event }) => {
      if (!event || "touches" in event || !inside(offsetX, offsetY)) return;
      begin = offsetX;
    });
    zr.on("mousemove", ({ offsetX, offsetY }) => {
      this.#pointer = inside(offsetX, offsetY) ? this.chart.convertFromPixel({ yAxisIndex: 0 }, offsetY) : 0;
      if (begin === undefined) return;
      mark.hidden = Math.abs(offsetX - begin) < LEAST_DRAG;
      mark.style.left = `${Math.min(begin, offsetX)}px`;
      mark.style.width = `${Math.abs(offsetX - begin)}px`;
    });
    const release = ({ clientX }: MouseEvent) => {
      if (begin === undefined) return;
      const end = clientX - this.place.getBoundingClientRect().left;
      const [from, to] = [Math.min(begin, end), Math.max(begin, end)].map(stepAt) as [number, number];
      if (Math.abs(end - begin) >= LEAST_DRAG && to > from) onRange({ from: Math.max(0, from), to });
      mark.hidden = true;
      begin = undefined;
    };
    window.addEventListener("mouseup", release, { signal: this.whenGone });
    zr.on("dblclick", () => onRange(null));
  }
}

function lastOf({ name, points }: Line): string {
  const last = points.values.at(-1);
  return typeof last === "number" ? `${name}: ${significant(last)} at step ${whole(points.iters.at(-1)!)}` : name;
}

function seriesOf({ name, color, points: { iters, values }, look }: Line, log: boolean) {
  const drawn = (value: number | null) => (log && value !== null && value <= 0 ? null : value);
  return {
    id: name,
    name,
    type: "line" as const,
    data: iters.map((iter, i) => [iter, drawn(values[i]!)]),
    color,
    showSymbol: look === "marks" ? iters.length <= 100 : iters.length === 1,
    symbol: look === "marks" ? "circle" : "emptyCircle",
    symbolSize: 5,
    lineStyle: { width: look === "bold" ? 2 : look === "faint" ? 1 : 1.5, opacity: look === "faint" ? 0.35 : 1 },
    z: { faint: 2, bold: 3, marks: 4, plain: 3 }[look],
    emphasis: { disabled: true },
  };
}

/** The format of an axis' numbers, by the largest of them. */
function numbersUpTo(high: number): (value: number) => string {
  return (value) => {
    if (high >= 1e4) return short(value);
    if (high >= 1000) return whole(value);
    return high > 0 && high < 0.01 && value !== 0 ? value.toExponential(2).replace(/\.?0+e/, "e") : significant(value);
  };
}

const highest = (lines: readonly Line[]) =>
  lines.reduce(
    (high, { points }) => points.values.reduce<number>((h, value) => Math.max(h, Math.abs(value ?? 0)), high),
    0,
  );

/** A logarithmic axis gets numbers between the powers of ten too. */
function scaleOf(lines: readonly Line[], log: boolean) {
  if (!log) return { type: "value" as const, scale: true };
  const values = lines.flatMap(({ points }) =>
    points.values.filter((value) => value !== null && value > 0),
  ) as number[];
  const [low, high] = values.reduce(
    ([low, high], value) => [Math.min(low, value), Math.max(high, value)],
    [Infinity, 0],
  );
  if (high === 0) return { type: "value" as const, scale: true };
  const [min, max] = [low / 1.03, high * 1.03];
  const factors = max / min > 100 ? [1] : max / min > 8 ? [1, 2, 5] : [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8];
  const customValues: number[] = [];
  for (let power = Math.floor(Math.log10(min)); power <= Math.log10(max); power++) {
    for (const factor of factors) {
      const value = Number((factor * 10 ** power).toPrecision(3));
      if (value >= min && value <= max) customValues.push(value);
    }
  }
  const font = { color: style("--quiet"), fontFamily: style("--font"), fontSize: 12 };
  return {
    type: "log" as const,
    min,
    max,
    axisTick: { customValues },
    axisLabel: { ...font, customValues, formatter: numbersUpTo(max), hideOverlap: true },
  };
}

const PARTS = ["compute", "update", "data", "evaluate", "checkpoint", "other"]; // the order of the bars' parts

export class TimeChart extends Chart {
  constructor(parent: HTMLElement, title: string) {
    super(parent, title, "share of the time between evaluations", false);
  }

  show({ iters, seconds }: TimeSplit): void {
    const { axis, tooltip } = this.look();
    const names = Object.keys(seconds).sort((a, b) => rank(a) - rank(b));
    const sums = iters.map((_, i) => names.reduce((sum, name) => sum + seconds[name]![i]!, 0));
    const total = sums.reduce((sum, each) => sum + each, 0);
    const parts = names.map((name, i) => ({ name, color: style(`--part-${i % 6}`), seconds: seconds[name]! }));
    const shares = parts.map(({ name, seconds }) => {
      return `${name} ${percent(seconds.reduce((sum, each) => sum + each, 0) / (total || 1))}`;
    });
    this.explain(
      parts.map(({ name, color }) => ({ name, color, look: "block" })),
      shares.join(", "),
    );
    this.chart.setOption(
      {
        animation: false,
        grid: { left: 4, right: 18, top: 10, bottom: 4, outerBoundsMode: "same", outerBoundsContain: "axisLabel" },
        tooltip: {
          ...tooltip,
          axisPointer: { type: "shadow" },
          formatter: (found: unknown) => {
            const [{ dataIndex }] = found as [{ dataIndex: number }];
            const rows = parts.map(({ name, seconds }) => {
              const value = seconds[dataIndex]!;
              return `${name}  ${percent(value / (sums[dataIndex] || 1))}  (${significant(value)} s)`;
            });
            return [`until step ${whole(iters[dataIndex]!)}`, ...rows].join("\n");
          },
        },
        xAxis: {
          ...axis,
          type: "category",
          data: iters.map(whole),
          axisLabel: { ...axis.axisLabel, hideOverlap: true },
          splitLine: { show: false },
        },
        yAxis: { ...axis, type: "value", max: 100, axisLabel: { ...axis.axisLabel, formatter: "{value} %" } },
        series: parts.map(({ name, color, seconds }) => ({
          id: name,
          name,
          type: "bar" as const,
          stack: "time",
          barCategoryGap: "15%",
          color,
          data: seconds.map((value, i) => (100 * value) / (sums[i] || 1)),
          emphasis: { disabled: true },
        })),
      },
      { replaceMerge: ["series"] },
    );
  }
}

function rank(name: string): number {
  const place = PARTS.indexOf(name);
  return place < 0 ? PARTS.length : place;
}
