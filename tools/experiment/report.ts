// An experiment's report, as Markdown with SVG files and as one HTML page: a table, its meaning, curves, and how and where it was run.
// Everything comes from the runs' folders; no absolute paths appear.

import { existsSync } from "node:fs";
import { basename, dirname, extname, join } from "node:path";
import { writeResult } from "../../lib/common/atomic.ts";
import { UserError } from "../../lib/common/errors.ts";
import { duration } from "../../lib/common/format.ts";
import { ROOT } from "../../lib/common/scripts.ts";
import { History } from "../../lib/monitor/metrics_file.ts";
import { plotComparison, plotTrainingCurves } from "../../lib/monitor/plots.ts";
import type { Settings } from "../../lib/settings/rules.ts";
import { shownPath } from "../../lib/text/dataset.ts";
import { defaults as trainDefaults } from "../../train.ts";
import { areNamed, type Comparison, compareExperiments, comparisonTable, formatStatistic } from "./compare.ts";
import { type Block, toHtml, toMarkdown } from "./document.ts";
import { formatMetric, titleOf } from "./format.ts";
import type { FoundExperiment } from "./load.ts";

const MOST_CURVES = 8;

export interface SummaryReport {
  title: string;
  blocks: Block[];
}

/**
 * The report on an experiment's finished runs.
 * @param metric by which trials are judged; the experiment's own if not given
 * @throws UserError if no run is finished
 */
export function generateSummaryReport(
  found: FoundExperiment,
  metric = found.experiment.settings.metric,
): SummaryReport {
  const { experiment, groups, runs, folder } = found;
  const { settings } = experiment;
  if (groups.length === 0) throw new UserError(`no run of ${shownPath(folder)} is finished yet`);
  const own = metric === settings.metric;
  const comparison = compareExperiments(groups, { metric, ...(own ? { goal: settings.goal } : {}) });
  const finished = runs.filter(({ state }) => state === "finished");
  const iters = [...new Set(finished.map(({ results }) => results!.iter))];

  const { differing } = comparison;
  const varied = areNamed(comparison) ? `${differing.length} settings` : differing.join(" and ") || settings.name;
  const title = `Experiment ${settings.name}: ${varied}`;
  const blocks: Block[] = [];
  const add = (...more: Block[]) => blocks.push(...more);

  // 1) results
  const seeds = settings.seeds.length;
  const count = `${groups.length} trials with ${seeds} ${seeds === 1 ? "seed" : "seeds"} each`;
  add({ kind: "text", text: comparison.notes.join(" ") });
  if (finished.length < runs.length)
    add({ kind: "text", text: `Not complete: of ${runs.length} runs ${finished.length} have finished.` });
  const rows = comparisonTable(comparison); // if settings differ, they replace the names
  const best = comparison.rows.flatMap((row, i) => (row.best ? [i] : []));
  const when = `at the last evaluation (step ${iters.join(" or ")})`;
  const caption = `${count}. Losses in nats a token ${when}: mean ± standard deviation over the seeds.`;
  add({ kind: "heading", text: "Result" }, { kind: "table", rows, best, caption });
  const matrix = matrixOf(comparison);
  if (matrix) add({ kind: "table", ...matrix });

  // 2) pictures
  const comparisonSvg = plotComparison(
    comparison.rows.map(({ name, statistics }) => {
      const { mean, sd } = statistics[metric]!;
      return { label: name, mean, ...(Number.isFinite(sd) ? { spread: sd } : {}) };
    }),
    {
      title: `${titleOf(metric)} of each trial`,
      unit: titleOf(metric),
      better: comparison.goal === "min" ? "lower" : "higher",
    },
  );
  const drawn = bestRows(comparison);
  const curves = drawn.map(({ name, runs }) => ({ name, history: meanHistory(runs.map(({ history }) => history)) }));
  const which = drawn.length < groups.length ? `the ${drawn.length} best trials` : "each trial";
  add(
    { kind: "heading", text: "Curves" },
    {
      kind: "picture",
      name: "comparison",
      alt: `${titleOf(metric)} of each trial, with its spread`,
      svg: comparisonSvg,
    },
    {
      kind: "picture",
      name: "curves",
      alt: `losses over the steps, the mean over the seeds of ${which}`,
      svg: plotTrainingCurves(curves, { title: `Losses of ${which} after the start, mean over the seeds` }),
    },
  );

  // 3) how it was run
  const file = `config/experiments/${settings.name}.ts`;
  const command = existsSync(join(ROOT, file)) ? file : "experiment.json";
  const differs = Object.entries(commonSettings(found)).map(([key, value]) => `${key}=${value}`);
  const dates = finished.map(({ results }) => results!.date.slice(0, 10)).sort();
  const drawnWith = settings.search === "random" ? `, seed ${settings.search_seed}` : "";
  const seconds = finished.reduce((sum, { results }) => sum + (results!.metrics.wall_s ?? 0), 0);
  add(
    { kind: "heading", text: "How it was run" },
    {
      kind: "code",
      text: `npx tsx tools/experiment.ts run ${command}\nnpx tsx tools/experiment.ts report ${settings.name}`,
    },
    {
      kind: "text",
      text: `Seeds: ${settings.seeds.join(", ")}. Search: ${settings.search}${drawnWith}.`,
    },
    { kind: "text", text: `What differs from the defaults of train.ts: ${differs.join(", ")}.` },
    {
      kind: "text",
      text:
        `${[...new Set([dates[0], dates.at(-1)])].join(" to ")}; ${duration(seconds)} of training in all. ` +
        "Time is from the start of training to its end, evaluations and checkpoints included.",
    },
    { kind: "heading", text: "Environment" },
    { kind: "table", rows: environmentRows(found), words: true },
  );

  // 4) every run
  const runRows = runs.map(({ trial, seed, state, results }) => [
    trial.name,
    String(seed),
    state,
    ...["val/loss", "train/loss"].map((name) => formatMetric(name, results?.metrics[name])),
    formatMetric("wall_s", results?.metrics.wall_s),
    [results?.error, ...(results?.notes ?? [])].filter((note) => note !== undefined).join("; "),
  ]);
  const head = ["run", "seed", "state", titleOf("val/loss"), titleOf("train/loss"), titleOf("wall_s"), "note"];
  const withNotes = runRows.some((row) => row.at(-1) !== "");
  const shown = [head, ...runRows].map((row) => (withNotes ? row : row.slice(0, -1)));
  add({ kind: "heading", text: "Every run" }, { kind: "table", rows: shown });
  return { title, blocks };
}

/**
 * Write the report into files. @returns their paths
 * @param to a .md file (pictures go beside it), a .html file, or "" for both in the experiment's folder
 */
export function writeReports(
  found: FoundExperiment,
  { to = "", metric }: { to?: string; metric?: string } = {},
): string[] {
  const { title, blocks } = generateSummaryReport(found, metric);
  const paths = to === "" ? ["report.md", "report.html"].map((name) => join(found.folder, name)) : [to];
  const files: [path: string, text: string][] = [];
  for (const path of paths) {
    const extension = extname(path);
    if (extension === ".html") files.push([path, toHtml(title, blocks)]);
    else if (extension === ".md") {
      const pictureName = (name: string) => `${basename(path, extension)}-${name}.svg`;
      files.push([path, toMarkdown(title, blocks, pictureName)]);
      for (const block of blocks) {
        if (block.kind === "picture") files.push([join(dirname(path), pictureName(block.name)), block.svg]);
      }
    } else throw new UserError(`--to=${path}: a report is a .md or a .html file`);
  }
  for (const [path, text] of files) writeResult(path, text);
  return files.map(([path]) => path);
}

/** The rows whose curves fit into one picture, in order. */
function bestRows({ rows, metric, goal }: Comparison): Comparison["rows"] {
  const sign = goal === "min" ? 1 : -1;
  const meanOf = (row: Comparison["rows"][number]) => row.statistics[metric]!.mean;
  const ranked = rows.filter((row) => Number.isFinite(meanOf(row))).sort((a, b) => sign * (meanOf(a) - meanOf(b)));
  const shown = new Set(ranked.slice(0, MOST_CURVES));
  return rows.filter((row) => shown.has(row));
}

/** If exactly two settings differ: one as rows, the other as columns. */
function matrixOf({ rows, differing, metric }: Comparison): { rows: string[][]; caption: string } | undefined {
  const [down, across] = differing;
  if (down === undefined || across === undefined || differing.length > 2) return undefined;
  const values = (key: string) => [...new Set(rows.map(({ settings }) => settings[key]))];
  if (values(down).length * values(across).length !== rows.length) return undefined;
  const cell = (a: unknown, b: unknown) => {
    const row = rows.find(({ settings }) => settings[down] === a && settings[across] === b);
    return row ? `${formatStatistic(metric, row.statistics[metric]!)}${row.best ? " (best)" : ""}` : "-";
  };
  const head = [`${down} \\ ${across}`, ...values(across).map(String)];
  const body = values(down).map((a) => [String(a), ...values(across).map((b) => cell(a, b))]);
  return { rows: [head, ...body], caption: `${titleOf(metric)}: ${down} down, ${across} across.` };
}

/**
 * The mean over the seeds of each series, at the steps that all of them have. The loss before the first step is left
 * out, as it would flatten all differences.
 */
function meanHistory(histories: readonly History[]): History {
  const mean = new History();
  for (const name of histories[0]?.series.keys() ?? []) {
    const maps = histories.map(({ series }) => {
      const { iters = [], values = [] } = series.get(name) ?? {};
      return new Map(iters.map((iter, i) => [iter, values[i]!]));
    });
    const iters = [...maps[0]!.keys()].filter((iter) => iter > 0 && maps.every((map) => map.has(iter)));
    const values = iters.map((iter) => maps.reduce((sum, map) => sum + map.get(iter)!, 0) / maps.length);
    if (iters.length > 0) mean.series.set(name, { iters, values });
    mean.iter = Math.max(mean.iter, iters.at(-1) ?? 0);
  }
  return mean;
}

/** The settings shared by all finished runs that differ from train.ts' defaults. */
function commonSettings({ groups }: FoundExperiment): Settings {
  const configs = groups.flatMap(({ runs }) => runs.map(({ config }) => config));
  const defaults: Settings = trainDefaults;
  const entries = Object.entries(configs[0]!).filter(
    ([key, value]) =>
      key !== "out_dir" &&
      JSON.stringify(value) !== JSON.stringify(defaults[key]) &&
      configs.every((config) => JSON.stringify(config[key]) === JSON.stringify(value)),
  );
  return Object.fromEntries(entries);
}

/** The machines and versions of the runs; several values if they differ. */
function environmentRows({ runs }: FoundExperiment): string[][] {
  const made = runs.filter(({ state }) => state === "finished");
  const several = (values: (string | undefined)[]) =>
    [...new Set(values.filter((value) => value !== undefined))].join("; ") || "-";
  const of = (read: (environment: NonNullable<(typeof made)[number]["environment"]>) => string | null) =>
    several(made.map(({ environment }) => (environment ? (read(environment) ?? undefined) : undefined)));
  const loads = made.flatMap(({ environment }) => (environment?.load === undefined ? [] : [environment.load]));
  return [
    ["what", "value"],
    ["processor", of(({ hardware }) => `${hardware.cpu}, ${hardware.cores} cores`)],
    ["memory", of(({ hardware }) => `${hardware.memory_gb} GB`)],
    ["system", of(({ hardware }) => hardware.platform)],
    ...(loads.length > 0 ? [["load before a run", `${Math.min(...loads)} to ${Math.max(...loads)}`]] : []),
    ["device", several(made.map(({ results }) => results!.facts.device?.toString()))],
    ["Node", of(({ versions }) => versions.node)],
    ["ONNX Runtime", of(({ versions }) => versions.onnxruntime)],
    ["TensorFlow.js", of(({ versions }) => versions.tfjs)],
    ["git commit", of(({ versions }) => versions.commit)],
  ];
}
