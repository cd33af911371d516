// A line chart of characters: braille dots, two by four per character, for lines; one character per mark.

import { short, significant, ticks, whole } from "../../lib/common/format.ts";
import type { Series } from "../../lib/monitor/metrics_file.ts";

export interface Curve extends Series {
  color: number; // an ANSI colour, for `paint`
  mark?: string; // the character of each point; dots joined by a line if not given
}

export interface ChartSize {
  columns: number;
  rows: number; // including two for the axis and its numbers
}

const DOTS = [
  [0x01, 0x02, 0x04, 0x40],
  [0x08, 0x10, 0x20, 0x80],
]; // bits of a braille character: by column, from the top

/**
 * The chart's lines, no wider than `columns`; none if it is too small or there is nothing to draw.
 * A line shows the mean of the points in each of its dots.
 */
export function drawChart(
  curves: readonly Curve[],
  { columns, rows }: ChartSize,
  paint: (color: number, text: string) => string,
): string[] {
  const height = rows - 2;
  const from = Math.min(...curves.map(({ iters }) => iters[0] ?? Infinity));
  const to = Math.max(...curves.map(({ iters }) => iters.at(-1) ?? -Infinity));
  if (height < 3 || columns < 24 || !(from <= to)) return [];

  // 1) thin, to the width beside the axis labels
  const side = 8;
  const width = columns - side - 1;
  const across = (iter: number) => (to === from ? 0 : ((iter - from) / (to - from)) * (2 * width - 1));
  const thinned = curves.map((curve) => ({ ...curve, points: meanOfDots(curve, across) }));
  const all = thinned.flatMap(({ points }) => points.map(([, y]) => y));
  if (all.length === 0) return [];
  let [low, high] = [Math.min(...all), Math.max(...all)];
  if (low === high) [low, high] = [low - Math.abs(low) * 0.1 - 1e-9, high + Math.abs(high) * 0.1 + 1e-9];
  const down = (y: number) => ((high - y) / (high - low)) * (4 * height - 1);

  // 2) dots and marks
  const dots = new Uint8Array(width * height);
  const colors = new Uint8Array(width * height);
  const marks = new Map<number, string>();
  for (const { points, color, mark } of thinned) {
    if (mark !== undefined) {
      for (const [x, y] of points) {
        const cell = (Math.round(down(y)) >> 2) * width + (Math.round(x) >> 1);
        marks.set(cell, paint(color, mark));
      }
      continue;
    }
    let [lastX, lastY] = [points[0]?.[0] ?? 0, down(points[0]?.[1] ?? high)];
    for (const [x, value] of points) {
      const y = down(value);
      const count = Math.max(1, Math.ceil(Math.max(x - lastX, Math.abs(y - lastY))));
      for (let i = 0; i <= count; i++) {
        const [dotX, dotY] = [
          Math.round(lastX + ((x - lastX) * i) / count),
          Math.round(lastY + ((y - lastY) * i) / count),
        ];
        const cell = (dotY >> 2) * width + (dotX >> 1);
        dots[cell]! |= DOTS[dotX & 1]![dotY & 3]!;
        colors[cell] = color;
      }
      [lastX, lastY] = [x, y];
    }
  }

  // 3) lines, with numbers at the ticks
  const labels = new Map(
    ticks(low, high, Math.max(2, height / 3)).map((value) => [Math.round(down(value)) >> 2, significant(value)]),
  );
  const lines: string[] = [];
  for (let row = 0; row < height; row++) {
    const label = labels.get(row);
    let line = `${(label ?? "").padStart(side - 1)} ${label === undefined ? "│" : "┤"}`;
    for (let cell = row * width; cell < (row + 1) * width; cell++) {
      const dot = dots[cell]!;
      line += marks.get(cell) ?? (dot === 0 ? " " : paint(colors[cell]!, String.fromCharCode(0x2800 + dot)));
    }
    lines.push(line.trimEnd());
  }
  return [...lines, ...axisBelow({ from, to, side, width, across })];
}

function axisBelow({
  from,
  to,
  side,
  width,
  across,
}: {
  from: number;
  to: number;
  side: number;
  width: number;
  across: (iter: number) => number;
}): string[] {
  const axis = [..."─".repeat(width)];
  const numbers = [..." ".repeat(width)];
  for (const value of ticks(from, to, Math.max(2, width / 14)).filter(Number.isInteger)) {
    const at = Math.min(width - 1, Math.round(across(value)) >> 1);
    const text = value < 10_000 ? whole(value) : short(value);
    const start = Math.min(width - text.length, Math.max(0, at - (text.length >> 1)));
    axis[at] = "┬";
    numbers.splice(start, text.length, ...text);
  }
  return [`${" ".repeat(side)}└${axis.join("")}`, `${"step".padStart(side)} ${numbers.join("").trimEnd()}`];
}

/** [column of dots, mean of the values there], from the left. */
function meanOfDots({ iters, values }: Series, across: (iter: number) => number): [x: number, y: number][] {
  const points: [number, number][] = [];
  let [sum, count, column] = [0, 0, -1];
  const flush = () => {
    if (count > 0) points.push([column, sum / count]);
    [sum, count] = [0, 0];
  };
  for (const [i, iter] of iters.entries()) {
    const value = values[i]!;
    if (!Number.isFinite(value)) continue;
    const x = Math.round(across(iter));
    if (x !== column) flush();
    column = x;
    sum += value;
    count++;
  }
  flush();
  return points;
}
