// Compares trials: the mean of each metric over the seeds and its spread, and whether the best is better than the others by more than that
// spread. It doesn't test hypotheses: with three seeds, a difference of several times the spread is credible, and one within it is not.

import { UserError } from "../../lib/common/errors.ts";
import type { History } from "../../lib/monitor/metrics_file.ts";
import type { Settings, Value } from "../../lib/settings/rules.ts";
import { UNCHANGED } from "./experiment_config.ts";
import { formatMetric, titleOf } from "./format.ts";
import { METRICS } from "./results.ts";

/** One run, of any origin. */
export interface ComparedRun {
  name: string; // for a curve's legend: "n_head=2, seed 1337"
  folder: string;
  seed: number;
  config: Settings;
  metrics: Record<string, number | null>; // null: NaN, as after a divergence
  history: History;
}

/** Runs that differ only in their seed: a trial, or a single run. */
export interface Group {
  name: string;
  runs: ComparedRun[];
}

/** Of a metric, over the runs of a group. */
export interface Statistic {
  n: number; // runs that have it
  mean: number; // NaN if one of them is NaN, or none has it
  sd: number; // standard deviation, divided by n - 1; NaN for fewer than two
}

export interface Row {
  name: string;
  settings: Settings; // those that differ between rows
  statistics: Record<string, Statistic>;
  best: boolean;
  runs: ComparedRun[];
}

export interface Comparison {
  metric: string;
  goal: "min" | "max";
  /** The settings that differ between rows. */
  differing: string[];
  /** The metrics that any of the rows has, in the order of METRICS. */
  metrics: string[];
  rows: Row[];
  /** Sentences: which is best, and by how much relative to the spread. */
  notes: string[];
}

/** Never columns: a run's folder, and the seed. */
const NOT_COMPARED = ["out_dir", "seed"];

/** With more settings the trials' names replace columns, and with more trials sentences don't name each. */
const MANY = 5;

/**
 * Compare groups of runs.
 * @param metric one of finalMetrics, or of the history: its last value
 * @param goal by the metric's name if not given: more tokens/s are better, less of most others
 * @throws UserError if no run has the metric
 */
export function compareExperiments(
  groups: readonly Group[],
  {
    metric = "val/loss",
    goal = METRICS[metric]?.better ?? (/tokens_per_s|mfu/.test(metric) ? "max" : "min"),
  }: {
    metric?: string;
    goal?: "min" | "max";
  } = {},
): Comparison {
  const runs = groups.flatMap((group) => group.runs);
  const names = [...Object.keys(METRICS), metric];
  const metrics = [...new Set(names)].filter((name) => runs.some((run) => metricOf(run, name) !== undefined));
  if (!metrics.includes(metric)) {
    const known = [...new Set([...metrics, ...runs.flatMap((run) => [...run.history.series.keys()])])].slice(0, 20);
    throw new UserError(`no run has the metric ${metric}; they have: ${known.join(", ") || "none"}`);
  }
  const differing = differingSettings(groups);
  const rows = groups.map(({ name, runs }): Row => {
    const settings = Object.fromEntries(differing.map((key) => [key, runs[0]?.config[key] as Value]));
    const statistics = Object.fromEntries(metrics.map((name) => [name, statisticOf(runs, name)]));
    return { name, settings, statistics, best: false, runs };
  });
  const sign = goal === "min" ? 1 : -1;
  const meanOf = (row: Row) => row.statistics[metric]!.mean;
  const ranked = rows.filter((row) => Number.isFinite(meanOf(row))).sort((a, b) => sign * (meanOf(a) - meanOf(b)));
  for (const row of ranked) row.best = meanOf(row) === meanOf(ranked[0]!);
  return { metric, goal, differing, metrics, rows, notes: notesOn(ranked, rows, metric) };
}

function metricOf({ metrics, history }: ComparedRun, metric: string): number | null | undefined {
  return Object.hasOwn(metrics, metric) ? metrics[metric] : history.last(metric);
}

/** Mean and standard deviation of a metric over runs. */
export function statisticOf(runs: readonly ComparedRun[], metric: string): Statistic {
  const values = runs.map((run) => metricOf(run, metric)).filter((value) => value !== undefined);
  const numbers = values.map((value) => value ?? Number.NaN);
  const n = numbers.length;
  const mean = numbers.reduce((sum, value) => sum + value, 0) / n;
  const squares = numbers.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { n, mean, sd: n > 1 ? Math.sqrt(squares / (n - 1)) : Number.NaN };
}

function differingSettings(groups: readonly Group[]): string[] {
  const configs = groups.flatMap(({ runs }) => (runs[0] ? [runs[0].config] : []));
  const keys = [...new Set(configs.flatMap((config) => Object.keys(config)))];
  const show = (value: Value | undefined) => JSON.stringify(value);
  return keys.filter(
    (key) => !NOT_COMPARED.includes(key) && configs.some((config) => show(config[key]) !== show(configs[0]![key])),
  );
}

/** The pooled spread of two rows: the root of the mean of their variances. */
function spreadOf(a: Statistic, b: Statistic): number {
  const known = [a.sd, b.sd].filter(Number.isFinite);
  return Math.sqrt(known.reduce((sum, sd) => sum + sd ** 2, 0) / known.length);
}

function notesOn(ranked: readonly Row[], rows: readonly Row[], metric: string): string[] {
  const notes: string[] = [];
  const [best, ...others] = ranked;
  const show = (value: number) => formatMetric(metric, value);
  if (best && others.length > 0) {
    const first = best.statistics[metric]!;
    notes.push(
      `Best ${titleOf(metric)}: ${best.name}, with ${show(first.mean)}${first.n > 1 ? ` ± ${show(first.sd)}` : ""}.`,
    );
    const within: string[] = []; // the nearest first
    const beyond: string[] = [];
    for (const row of others) {
      const other = row.statistics[metric]!;
      const difference = Math.abs(other.mean - first.mean);
      const spread = spreadOf(first, other);
      if (!Number.isFinite(spread)) continue;
      const ratio = spread === 0 ? "" : `, ${(difference / spread).toFixed(1)} times the spread`;
      (difference > spread ? beyond : within).push(`${row.name} (by ${show(difference)}${ratio})`);
    }
    if (beyond.length > 0) notes.push(`Better by more than the spread over the seeds than ${some(beyond)}.`);
    if (within.length > 0) notes.push(`Within the spread, so perhaps no better than ${some(within)}.`);
    if (beyond.length + within.length === 0) {
      notes.push(
        "One run each: how much another seed would change is not known, so neither is what the difference means.",
      );
    }
  }
  for (const row of rows) {
    const { n, mean } = row.statistics[metric]!;
    if (n > 0 && !Number.isFinite(mean))
      notes.push(`${row.name}: the ${titleOf(metric)} of a run is NaN: it has diverged.`);
  }
  return notes;
}

/** The first names, and the number of others. */
const some = (names: readonly string[]) =>
  names.length <= MANY
    ? names.join("; ")
    : `${names.slice(0, MANY - 1).join("; ")}; and ${names.length - MANY + 1} more`;

/** "1.8834 ± 0.0021"; with the number of runs if it isn't `usual`. */
export function formatStatistic(metric: string, { n, mean, sd }: Statistic, usual = n): string {
  if (n === 0) return "-";
  const spread = Number.isFinite(sd) && sd > 0 ? ` ± ${formatMetric(metric, sd)}` : "";
  return `${formatMetric(metric, mean)}${spread}${n === usual ? "" : ` (n=${n})`}`;
}

/** Do the trials' names show the differing settings, so that the table needn't? */
export function areNamed({ rows, differing }: Comparison): boolean {
  if (differing.length <= MANY) return false;
  return rows.every(({ name, settings }) => {
    const parts = Object.entries(settings).map(([key, value]) => `${key}=${String(value)}`);
    return name === UNCHANGED || name.split(", ").every((part) => parts.includes(part));
  });
}

/**
 * A comparison as rows of text: a heading, then the trials.
 * @param names with a column for the trials' names: needed if no setting differs
 */
export function comparisonTable(comparison: Comparison, names = comparison.differing.length === 0): string[][] {
  const { rows, metrics, metric } = comparison;
  const named = areNamed(comparison);
  if (named) names = true;
  const differing = named ? [] : comparison.differing;
  const columns = [metric, ...metrics.filter((name) => name !== metric && !isTwin(rows, name))];
  const heading = [...(names ? [named ? "trial" : ""] : []), ...differing, "runs", ...columns.map(titleOf)];
  const body = rows.map(({ name, settings, statistics, runs }) => [
    ...(names ? [name] : []),
    ...differing.map((key) => String(settings[key])),
    String(runs.length),
    ...columns.map((column) => formatStatistic(column, statistics[column]!, runs.length)),
  ]);
  return [heading, ...body];
}

/** The lowest loss adds nothing if it is the last. */
function isTwin(rows: readonly Row[], metric: string): boolean {
  if (metric !== "best/val/loss") return false;
  return rows.every(({ statistics }) => statistics[metric]!.mean === statistics["val/loss"]?.mean);
}
