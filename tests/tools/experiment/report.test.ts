// The report of an experiment that was written down by hand: what it says, that no text of it becomes markup, and that
// the page needs nothing from anywhere.

import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { writeJson } from "../../../lib/common/atomic.ts";
import { toHtml, toMarkdown } from "../../../tools/experiment/document.ts";
import { ExperimentConfig, type ExperimentSettings } from "../../../tools/experiment/experiment_config.ts";
import { loadExperiment } from "../../../tools/experiment/load.ts";
import { generateSummaryReport, writeReports } from "../../../tools/experiment/report.ts";
import type { Results } from "../../../tools/experiment/results.ts";
import { EXPERIMENT_FILE, planRuns, prepareRun } from "../../../tools/experiment/run_folder.ts";
import { temporaryFolder } from "../../scripts.ts";

const SMALL = { max_iters: 20, eval_interval: 10, warmup_iters: 0, n_embd: 32, n_head: 2 };
const HOSTILE = '<b>bold</b><img src=x onerror=alert(1)>|"';

/** An experiment whose runs, apart from `left`, ended with the losses that `lossOf` gives. */
async function madeUp(
  settings: Omit<ExperimentSettings, "name" | "base">,
  lossOf: (run: number) => number | null,
  { left = 0, failed = [] as number[] } = {},
): Promise<string> {
  const out = join(temporaryFolder(), "heads");
  mkdirSync(out);
  const experiment = new ExperimentConfig({ name: "heads", base: SMALL, ...settings });
  const plan = await planRuns(experiment, out);
  writeJson(join(out, EXPERIMENT_FILE), experiment.settings);
  for (const [i, run] of plan.slice(0, plan.length - left).entries()) {
    prepareRun(run);
    const loss = lossOf(i);
    const history = {
      "val/loss": { iters: [0, 10, 20], values: [4, 3, loss] },
      "train/loss": { iters: [0, 10, 20], values: [4, 3, loss] },
    };
    const base = { format_version: 1 as const, experiment: "heads", trial: run.trial.name, seed: run.seed, notes: [] };
    const ended = failed.includes(i) ? { state: "failed" as const, error: HOSTILE } : { state: "finished" as const };
    const facts = { device: "cpu", parameters: 1000 };
    const metrics = { "val/loss": loss, "train/loss": loss, wall_s: 60 };
    const results: Results = { ...base, ...ended, date: "2026-01-02T03:04:05.000Z", iter: 20, facts, metrics, history };
    writeJson(join(run.folder, "results.json"), results);
  }
  return out;
}

test("the Markdown has the table, the best trial, the pictures beside it, and no path of the machine", async () => {
  // seed-major: both trials with seed 1, then with seed 2
  const out = await madeUp({ axes: { n_head: [1, 2] }, seeds: [1, 2] }, (i) => [2.0, 1.0, 2.2, 1.2][i]!);
  const paths = writeReports(loadExperiment(out));
  assert.deepEqual(
    readdirSync(out).filter((name) => name.startsWith("report")),
    ["report-comparison.svg", "report-curves.svg", "report.html", "report.md"],
  );
  const text = readFileSync(paths[0]!, "utf8");
  assert.match(text, /^# Experiment heads: n_head\n\nBest validation loss: n_head=2, with 1\.1000 ± 0\.1414\./);
  assert.match(text, /\| 1 \| 2 \| 2\.1000 ± 0\.1414 \|/);
  assert.match(text, /\| \*\*2\*\* \| \*\*2\*\* \| \*\*1\.1000 ± 0\.1414\*\* \|/);
  assert.match(text, /!\[.*\]\(report-curves\.svg\)/);
  assert.match(text, /Seeds: 1, 2\. .*\n\nWhat differs from the defaults of train\.ts: .*n_embd=32/);
  assert.match(text, /4 min of training in all/);
  for (const name of ["report.md", "report.html", "report-curves.svg"]) {
    assert.ok(!readFileSync(join(out, name), "utf8").includes(out), `${name} names ${out}`);
  }
  // elsewhere, under another name
  const to = join(out, "docs", "h.md");
  assert.deepEqual(
    writeReports(loadExperiment(out), { to }).map((path) => path.slice(out.length + 6)),
    ["h.md", "h-comparison.svg", "h-curves.svg"],
  );
  assert.match(readFileSync(to, "utf8"), /\(h-curves\.svg\)/);
  assert.throws(() => writeReports(loadExperiment(out), { to: "x.pdf" }), /a \.md or a \.html file/);
});

test("a trial's name and an error stay text in HTML, in Markdown and in the pictures", async () => {
  const settings = { axes: { wandb_run_name: [HOSTILE, "plain"] } };
  const out = await madeUp({ ...settings, seeds: [1, 2] }, (i) => 1 + i, { failed: [2] });
  const [markdown, comparison, curves, page] = writeReports(loadExperiment(out)).map((path) =>
    readFileSync(path, "utf8"),
  );
  for (const text of [markdown, comparison, curves, page]) assert.doesNotMatch(text!, /<b>|<img/);
  assert.match(page!, /&lt;b&gt;bold&lt;\/b&gt;&lt;img src=x onerror=alert\(1\)&gt;\|&quot;/);
  assert.match(markdown!, /&lt;b>bold&lt;\/b>&lt;img src=x onerror=alert\(1\)>\\\|"/);
  assert.match(markdown!, /Not complete: of 4 runs 3 have finished\./);
});

test("the page is one file: no address but the names of XML, no script", async () => {
  const out = await madeUp({ axes: { n_head: [1, 2] } }, (i) => 1 + i);
  const { title, blocks } = generateSummaryReport(loadExperiment(out));
  const page = toHtml(title, blocks);
  assert.equal((page.match(/<svg/g) ?? []).length, 2);
  assert.doesNotMatch(page.replaceAll(/xmlns(:\w+)?="[^"]*"/g, ""), /https?:|src=|@import|url\((?!#)|<script|<link/);
  assert.match(page, /prefers-color-scheme: dark/);
});

test("two axes make a matrix, one value a cell", async () => {
  const axes = { n_head: [1, 2], n_layer: [3, 4] };
  const out = await madeUp({ axes }, (i) => [1.1, 1.2, 1.3, 1.4][i]!);
  const { title, blocks } = generateSummaryReport(loadExperiment(out));
  const text = toMarkdown(title, blocks, (name) => name);
  const rows = [
    "| n_head \\\\ n_layer | 3 | 4 |",
    "|---|---:|---:|",
    "| 1 | 1.1000 (best) | 1.2000 |",
    "| 2 | 1.3000 | 1.4000 |",
  ];
  assert.ok(text.includes(rows.join("\n")), text);
});

test("half an experiment is reported as half; none is refused", async () => {
  const half = await madeUp({ axes: { n_head: [1, 2] }, seeds: [1, 2] }, () => 2, { left: 1 });
  const found = loadExperiment(half);
  assert.deepEqual(
    found.runs.map(({ state }) => state),
    ["finished", "finished", "finished", "waiting"],
  );
  const { title, blocks } = generateSummaryReport(found);
  const text = toMarkdown(title, blocks, (name) => name);
  assert.match(text, /Not complete: of 4 runs 3 have finished\./);
  const none = await madeUp({ axes: { n_head: [1, 2] } }, () => 2, { left: 2 });
  assert.throws(() => generateSummaryReport(loadExperiment(none)), /no run of .* is finished yet/);
});

test("a metric that diverged everywhere has no best trial", async () => {
  const out = await madeUp({ axes: { n_head: [1, 2] } }, () => null);
  const { title, blocks } = generateSummaryReport(loadExperiment(out));
  assert.match(
    toMarkdown(title, blocks, (name) => name),
    /n_head=1: the validation loss of a run is NaN: it has diverged\./,
  );
});

test("load refuses what is no experiment, in one line", () => {
  const folder = temporaryFolder();
  assert.throws(() => loadExperiment(folder), /^UserError: no experiment in [^\n]+$/);
  writeFileSync(join(folder, EXPERIMENT_FILE), "{");
  assert.throws(() => loadExperiment(folder), /it is not JSON/);
});
