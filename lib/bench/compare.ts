// Compares a report with an earlier one of the same benchmark: the ratio of every figure, and which changed by more than its noise.
//
// The noise of a figure is the middle half of its samples. Two figures differ if these halves don't overlap and the
// values are more than 3 % apart, as two runs of the same program on a quiet machine can differ by that. Fewer than three samples say
// nothing about noise: then there is a ratio but no verdict. A figure without samples is exact: any change counts.

import { whole } from "../common/format.ts";
import { quantile } from "../common/statistics.ts";
import { currentSetting, currentSettings } from "../settings/renamed.ts";
import type { Metric } from "./benchmark.ts";
import type { Report } from "./report.ts";

const FEWEST_SAMPLES = 3;
const BETWEEN_RUNS = 0.03;

type Verdict = "worse" | "better" | "same" | "unknown";

/** The verdict on a new figure, compared with the old one. */
export function judge(old: Metric, now: Metric): Verdict {
  const [before, after] = [intervalOf(old), intervalOf(now)];
  if (!before || !after) return "unknown";
  const isExact = !old.samples && !now.samples;
  const apart = Math.abs(now.value - old.value) > (isExact ? 0 : BETWEEN_RUNS * Math.abs(old.value));
  const direction = after[0] > before[1] ? "higher" : after[1] < before[0] ? "lower" : undefined;
  if (!apart || !direction) return "same";
  return direction === now.better ? "better" : "worse";
}

/** Where the middle half of the samples lies; undefined for too few. */
function intervalOf({ value, samples }: Metric): [low: number, high: number] | undefined {
  if (!samples) return [value, value];
  if (samples.length < FEWEST_SAMPLES) return undefined;
  return [quantile(samples, 0.25), quantile(samples, 0.75)];
}

/** A verdict in words: times and rates get slower, other figures larger. */
function word(verdict: Verdict, { unit, better }: Metric): string {
  if (verdict === "same") return "";
  if (verdict === "unknown") return "(too few samples)";
  const isSpeed = better === "higher" || unit === "ms" || unit === "s";
  if (verdict === "worse") return isSpeed ? "SLOWER" : "LARGER";
  return isSpeed ? "faster" : "smaller";
}

/** The lines of a comparison: its table and remarks. */
export function compare(old: Report, now: Report): string[] {
  const rows = now.metrics.map((metric) => {
    const before = old.metrics.find(({ name }) => currentMetric(name) === metric.name);
    if (!before) return [metric.name, "-", show(metric.value), metric.unit, "-", ""];
    const ratio = before.value > 0 ? (metric.value / before.value).toFixed(3) : "-";
    const verdict = word(judge(before, metric), metric);
    return [metric.name, show(before.value), show(metric.value), metric.unit, ratio, verdict];
  });
  const head = ["", "then", "now", "", "ratio", ""];
  const all = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  const pad = (cell: string, column: number) =>
    [1, 2, 4].includes(column) ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!);
  const worse = rows.filter((row) => /^[A-Z]+$/.test(row[5]!)).map(([name]) => name);
  return [
    `compared with ${old.date.slice(0, 19).replace("T", " ")} UTC, commit ${old.versions.commit ?? "unknown"}:`,
    ...all.map((row) => `  ${row.map(pad).join("  ")}`.trimEnd()),
    ...differences("hardware", old.hardware, now.hardware),
    ...differences("versions", old.versions, now.versions),
    ...differences("settings", currentSettings(old.settings), now.settings),
    worse.length > 0 ? `worse by more than its noise: ${worse.join(", ")}` : "nothing got worse by more than its noise",
  ];
}

/** Today's name of a metric in an earlier report, such as tokens_per_s[pos=rotary window=16]. */
function currentMetric(name: string): string {
  return name.replace(/^drawn_/, "sampled_").replaceAll(/(\w+)=([^\s\]]+)/g, (_, key: string, value: string) => {
    const now = currentSetting(key, value);
    return `${now.key}=${now.value}`;
  });
}

/** One line with the differences, if any. */
function differences(what: string, old: Record<string, unknown>, now: Record<string, unknown>): string[] {
  const keys = Object.keys({ ...old, ...now }).filter((key) => JSON.stringify(old[key]) !== JSON.stringify(now[key]));
  const list = keys.map((key) => `${key} ${JSON.stringify(old[key])} -> ${JSON.stringify(now[key])}`);
  return keys.length > 0 ? [`other ${what}: ${list.join(", ")}`] : [];
}

function show(value: number): string {
  if (Math.abs(value) >= 1000) return whole(value);
  return String(Number(value.toPrecision(4)));
}
