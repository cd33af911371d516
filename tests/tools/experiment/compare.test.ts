import assert from "node:assert/strict";
import { test } from "node:test";
import { alignTable } from "../../../lib/common/format.ts";
import { History } from "../../../lib/monitor/metrics_file.ts";
import {
  type ComparedRun,
  compareExperiments,
  comparisonTable,
  formatStatistic,
  type Group,
} from "../../../tools/experiment/compare.ts";

/** Runs of a trial, one for each loss. */
function group(n_head: number, losses: (number | null)[], more: Record<string, number> = {}): Group {
  const runs = losses.map((loss, i): ComparedRun => {
    const history = new History();
    history.series.set("grad_norm", { iters: [0, 1], values: [9, 2 + i] });
    const config = { n_head, n_layer: 2, seed: i, out_dir: `out-${n_head}-${i}` };
    const metrics = { "val/loss": loss, ...more };
    return { name: `n_head=${n_head}, seed ${i}`, folder: "", seed: i, config, metrics, history };
  });
  return { name: `n_head=${n_head}`, runs };
}

test("mean and standard deviation are those computed by hand", () => {
  // 1.5, 1.7, 1.9: mean 1.7, squares 0.04 + 0 + 0.04, / 2 = 0.04, root 0.2
  const { rows, differing } = compareExperiments([group(1, [1.5, 1.7, 1.9]), group(2, [2.0, 2.2])]);
  const statistics = rows.map((row) => row.statistics["val/loss"]!);
  assert.equal(statistics[0]!.n, 3);
  assert.ok(Math.abs(statistics[0]!.mean - 1.7) < 1e-12);
  assert.ok(Math.abs(statistics[0]!.sd - 0.2) < 1e-12);
  // 2.0, 2.2: mean 2.1, squares 0.01 + 0.01, / 1, root 0.141421356
  assert.ok(Math.abs(statistics[1]!.mean - 2.1) < 1e-12);
  assert.ok(Math.abs(statistics[1]!.sd - 0.1414213562) < 1e-9);
  assert.deepEqual(differing, ["n_head"]); // neither seed nor out_dir
  assert.deepEqual(
    rows.map(({ best }) => best),
    [true, false],
  );
});

test("a difference beyond the spread is told from one within it", () => {
  // spread between the two: sqrt((0.2^2 + 0.2^2) / 2) = 0.2
  const far = compareExperiments([group(1, [1.5, 1.7, 1.9]), group(2, [2.5, 2.7, 2.9])]).notes.join(" ");
  assert.match(far, /^Best validation loss: n_head=1, with 1\.7000 ± 0\.2000\./);
  assert.match(
    far,
    /Better by more than the spread over the seeds than n_head=2 \(by 1\.0000, 5\.0 times the spread\)/,
  );
  const near = compareExperiments([group(1, [1.5, 1.7, 1.9]), group(2, [1.6, 1.8, 2.0])]).notes.join(" ");
  assert.match(near, /Within the spread, so perhaps no better than n_head=2 \(by 0\.1000, 0\.5 times the spread\)/);
  const alone = compareExperiments([group(1, [1.5]), group(2, [1.6])]).notes.join(" ");
  assert.match(alone, /One run each/);
});

test("the goal decides what is best: by the metric's name, or as given", () => {
  const groups = [group(1, [2], { train_tokens_per_s: 10 }), group(2, [1], { train_tokens_per_s: 5 })];
  const bestBy = (options: Parameters<typeof compareExperiments>[1]) =>
    compareExperiments(groups, options).rows.find((row) => row.best)?.name;
  assert.equal(bestBy({}), "n_head=2");
  assert.equal(bestBy({ goal: "max" }), "n_head=1");
  assert.equal(bestBy({ metric: "train_tokens_per_s" }), "n_head=1");
});

test("any metric of the history will do, and one that no run has is refused with those there are", () => {
  const { rows } = compareExperiments([group(1, [1, 2])], { metric: "grad_norm" });
  assert.equal(rows[0]!.statistics.grad_norm!.mean, 2.5); // the last values: 2 and 3
  assert.throws(
    () => compareExperiments([group(1, [1])], { metric: "x" }),
    /no run has the metric x; they have: val\/loss, grad_norm/,
  );
});

test("a run that diverged keeps its trial from being the best, and is told of", () => {
  const { rows, notes } = compareExperiments([group(1, [0.1, null]), group(2, [3, 3])]);
  assert.deepEqual(
    rows.map(({ best }) => best),
    [false, true],
  );
  assert.match(notes.join(" "), /n_head=1: the validation loss of a run is NaN/);
  assert.equal(formatStatistic("val/loss", rows[0]!.statistics["val/loss"]!), "not a number");
});

test("the table has the settings that differ, what decides first, and lines up", () => {
  const comparison = compareExperiments([group(1, [1.5, 1.7], { parameters: 26816 }), group(16, [2.5, 2.5])], {});
  const table = comparisonTable(comparison);
  assert.deepEqual(table, [
    ["n_head", "runs", "validation loss", "parameters"],
    ["1", "2", "1.6000 ± 0.1414", "26,816"],
    ["16", "2", "2.5000", "-"],
  ]);
  const lines = alignTable(table).split("\n");
  assert.equal(lines[1], "1          2  1.6000 ± 0.1414      26,816");
  assert.equal(new Set(lines.map((line) => line.length)).size, 1);
});

/** Trials that change a setting each. */
function oneEach(count: number, named = true): Group[] {
  const keys = Array.from({ length: count }, (_, i) => `key${i}`);
  const base = Object.fromEntries(keys.map((key) => [key, 0]));
  return [undefined, ...keys].map((changed, i) => {
    const [run] = group(1, [2 + i]).runs;
    const name = named ? (changed ? `${changed}=1` : "base") : `out-${i}`;
    const config = { ...base, ...(changed && { [changed]: 1 }) };
    return { name, runs: [0, 0.01].map((more) => ({ ...run!, config, metrics: { "val/loss": 2 + i + more } })) };
  });
}

test("many settings are told by the trials' names, where these say them", () => {
  const heading = (groups: Group[]) => comparisonTable(compareExperiments(groups))[0];
  const keys = (count: number) => Array.from({ length: count }, (_, i) => `key${i}`);
  assert.deepEqual(heading(oneEach(5)), [...keys(5), "runs", "validation loss"]);
  assert.deepEqual(heading(oneEach(6)), ["trial", "runs", "validation loss"]);
  assert.deepEqual(comparisonTable(compareExperiments(oneEach(6)))[2], ["key0=1", "2", "3.0050 ± 0.0071"]);
  assert.deepEqual(heading(oneEach(6, false)), [...keys(6), "runs", "validation loss"]); // folders say nothing
});

test("of many trials the nearest are named, and the others counted", () => {
  const note = (count: number) => compareExperiments(oneEach(count)).notes.at(-1)!;
  assert.match(note(5), /than key0=1 \(.*key4=1 \(by 5\.0000, 707\.1 times the spread\)\.$/);
  assert.match(note(6), /than key0=1 \(.*key3=1 \(by 4\.0000, 565\.7 times the spread\); and 2 more\.$/);
});
