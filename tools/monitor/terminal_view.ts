// Runs as terminal lines: the status of each, then one chart of their losses, then their last samples. If space is short, the runs that ended
// first get one line each, or none. Only formats; tools/monitor.ts writes the lines.

import { stripVTControlCharacters } from "node:util";
import { whole } from "../../lib/common/format.ts";
import type { History } from "../../lib/monitor/metrics_file.ts";
import { type Curve, drawChart } from "./braille_chart.ts";
import {
  describeFacts,
  describeOthers,
  describeProgress,
  describeState,
  figuresOf,
  isLive,
  type Status,
} from "./run_status.ts";

export interface DrawnRun {
  label: string;
  place: number; // from 0, for its colour and mark
  history: History;
  status: Status;
}

export interface Screen {
  columns: number;
  rows: number; // the lines may be fewer
  color: boolean;
  now: number; // ms since 1970
}

/** Remarks on runs that aren't shown. */
export interface Beside {
  others: readonly Status[];
  progress: readonly string[]; // of experiments
}

const COLORS = [36, 33, 35, 32, 34, 31, 96, 95]; // of runs: ANSI
const MARKS = ["●", "■", "▲", "◆", "▼", "★", "○", "□"]; // for their validation losses
const [BOLD, FAINT, RED, GREEN] = [1, 2, 31, 32];
const MOST_CHART = 24; // rows
const LEAST_CHART = 9; // rows reserved for it; a third of a tall screen
const SAMPLE = 6; // lines of a sample, if there is one run

/** The lines, each within `columns`, as many as fit into `rows`. */
export function drawRuns(
  runs: readonly DrawnRun[],
  { columns, rows, color, now }: Screen,
  { others, progress }: Beside = { others: [], progress: [] },
): string[] {
  const paint = (code: number, text: string) => (color && text ? `\x1b[${code}m${text}\x1b[0m` : text);
  const several = runs.length > 1 || others.length > 0;
  const lineOf = (text: string) => cut(text, columns);
  const heads = new Map(runs.map((run) => [run, headOf(run, several, columns, now, paint)]));
  const top = () => {
    const hidden = runs.filter((run) => !heads.has(run)).map(({ status }) => status);
    const more = describeOthers([...others, ...hidden]);
    return [...progress.map(lineOf), ...spaced([...heads.values()]), ...(more ? [paint(FAINT, lineOf(more))] : [])];
  };
  // runs that ended first shrink first, and then disappear
  const order = runs.toSorted(
    (a, b) => Number(isLive(a.status)) - Number(isLive(b.status)) || a.status.time - b.status.time,
  );
  const room = rows - Math.max(LEAST_CHART, Math.floor(rows / 3));
  const short = (run: DrawnRun) => [shortHeadOf(run, several, columns, now, paint)];
  for (const run of order) {
    if (several && !isLive(run.status) && top().length > room) heads.set(run, short(run));
  }
  for (const run of order) if (several && top().length > rows) heads.set(run, short(run));
  for (const run of order) if (several && top().length > rows) heads.delete(run);

  const above = top();
  const samples = runs.flatMap((run) =>
    (heads.get(run)?.length ?? 0) > 1 ? sampleOf(run, several, columns, paint) : [],
  );
  const left = rows - above.length - 1;
  const chartRows = Math.min(MOST_CHART, left - samples.length);
  // a short screen keeps the chart and drops the samples
  const chart = chartOf(runs, { columns, rows: chartRows >= 8 ? chartRows : Math.min(left, 12) }, paint);
  const lines = [...above, ...(chart.length > 0 ? ["", ...chart] : []), ...samples];
  return lines.slice(0, Math.max(1, rows));
}

/** Heads one below the other, with an empty line before and after those of more than a line. */
function spaced(heads: readonly string[][]): string[] {
  return heads.flatMap((head, i) => {
    const apart = i > 0 && (head.length > 1 || heads[i - 1]!.length > 1);
    return apart ? ["", ...head] : head;
  });
}

type Paint = (code: number, text: string) => string;

/** Name, state and `rest`. */
function firstLine(run: DrawnRun, rest: string, several: boolean, columns: number, now: number, paint: Paint): string {
  const { status, place } = run;
  const state = describeState(status, now);
  const bad = status.state === "failed" || status.state === "silent";
  const mark = several ? `${MARKS[place % MARKS.length]} ` : "";
  const parts = fit([mark, run.label, "  ", state, "  ", rest], columns);
  const codes = [colorOf(place), BOLD, 0, bad ? RED : GREEN, 0, FAINT];
  return parts
    .map((part, i) => (codes[i] && part ? paint(codes[i]!, part) : part))
    .join("")
    .trimEnd();
}

/** The status in one line. */
function shortHeadOf(run: DrawnRun, several: boolean, columns: number, now: number, paint: Paint): string {
  const { history, status } = run;
  const losses = figuresOf(history, status).filter(({ label }) => label.endsWith("val loss"));
  const words = losses.map(({ label, value }) => `${label} ${value}`);
  if (isLive(status) && history.start) words.unshift(describeProgress(status)[0]!);
  return firstLine(run, words.join("   "), several, columns, now, paint);
}

function headOf(run: DrawnRun, several: boolean, columns: number, now: number, paint: Paint): string[] {
  const { history, status, place } = run;
  // 1) name, state, facts
  const lines = [firstLine(run, describeFacts(history), several, columns, now, paint)];
  if (!history.start) return lines;

  // 2) the bar
  const { step, steps } = status;
  const progress = describeProgress(status).join(" · ");
  const width = Math.min(40, columns - progress.length - 2);
  if (steps !== undefined && width >= 8) {
    const done = steps === 0 ? width : Math.floor((width * step) / steps);
    lines.push(`${paint(colorOf(place), "█".repeat(done))}${paint(FAINT, "░".repeat(width - done))}  ${progress}`);
  } else lines.push(cut(progress, columns));

  // 3) figures, as many per line as fit
  let [line, length] = ["", 0];
  for (const { label, value } of figuresOf(history, status)) {
    const size = label.length + 1 + value.length;
    if (length > 0 && length + 3 + size > columns) {
      lines.push(line);
      [line, length] = ["", 0];
    }
    const [name, space, shown] = fit([label, " ", value], columns);
    line += `${length > 0 ? "   " : ""}${paint(FAINT, name!)}${space}${shown}`;
    length += (length > 0 ? 3 : 0) + size;
  }
  if (line) lines.push(line);
  return lines;
}

function chartOf(runs: readonly DrawnRun[], size: { columns: number; rows: number }, paint: Paint): string[] {
  const none = { iters: [], values: [] };
  const order = runs.toReversed(); // the first one is drawn on top
  const curves = order.map(({ history, place }): Curve => {
    return { ...(history.series.get("loss") ?? none), color: colorOf(place) };
  });
  for (const { history, place } of order) {
    const mark = MARKS[place % MARKS.length]!;
    const color = colorOf(runs.length === 1 ? place + 1 : place);
    curves.push({ ...(history.series.get("val/loss") ?? none), color, mark });
  }
  const lines = drawChart(curves, { ...size, rows: size.rows - 1 }, paint);
  if (lines.length === 0) return [];
  const marks = [...new Set(runs.map(({ place }) => MARKS[place % MARKS.length]))];
  return [paint(FAINT, cut(`loss: line each step (mean), ${marks.join("")} validation`, size.columns)), ...lines];
}

function sampleOf({ label, history }: DrawnRun, several: boolean, columns: number, paint: Paint): string[] {
  const last = history.texts.at(-1);
  if (!last) return [];
  const title = `${several ? `${label}: ` : ""}${last.name} after ${whole(last.iter)} steps`;
  const texts = last.text.split(/\r\n|\r|\n/).filter((line) => line.trim() !== "");
  const shown = texts.slice(0, several ? 2 : SAMPLE).map((line) => {
    const [mark, words] = fit(["│ ", line], columns);
    return `${paint(FAINT, mark!)}${words}`;
  });
  return ["", paint(FAINT, cut(title, columns)), ...shown];
}

function colorOf(place: number): number {
  return COLORS[place % COLORS.length]!;
}

// ---- foreign text: without control sequences ---------------------------------------------------------------------

function oneLine(text: string): string {
  return stripVTControlCharacters(text).replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, " ");
}

/** Joined parts, the last ones shortened to fit into `columns`. */
function fit(parts: readonly string[], columns: number): string[] {
  let left = columns;
  return parts.map((part) => {
    const shown = cut(part, left);
    left -= widthOf(shown);
    return shown;
  });
}

/** The text on one line, truncated with "…" if need be. All output passes through here. */
export function cut(words: string, columns: number): string {
  const text = oneLine(words);
  if (widthOf(text) <= columns) return text;
  let [shown, width] = ["", 0];
  for (const character of text) {
    width += widthOf(character);
    if (width > columns - 1) break;
    shown += character;
  }
  return columns > 0 ? `${shown}…` : "";
}

const WIDE =
  /[\p{Emoji_Presentation}\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{20000}-\u{3fffd}]/u;

/** The width in columns of a text without control characters. */
export function widthOf(text: string): number {
  let width = 0;
  for (const character of text) width += /\p{M}/u.test(character) ? 0 : WIDE.test(character) ? 2 : 1;
  return width;
}
