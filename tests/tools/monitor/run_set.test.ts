// tools/monitor/run_set.ts: which runs folders stand for as runs come, go and end, which of many are shown, and how far an
// experiment is.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { appendFileSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { writeJson } from "../../../lib/common/atomic.ts";
import { METRICS_FILE } from "../../../lib/monitor/metrics_file.ts";
import { ExperimentConfig, type ExperimentSettings } from "../../../tools/experiment/experiment_config.ts";
import { RunSet } from "../../../tools/monitor/run_set.ts";
import { describeOthers } from "../../../tools/monitor/run_status.ts";
import { temporaryFolder } from "../../scripts.ts";

const FOLDER = temporaryFolder();
const NOW = Date.now();
const SECOND = 1000;
const gone = spawnSync(process.execPath, ["--version"]).pid;

const line = (event: string, time: number, fields: object) =>
  `${JSON.stringify({ event, time, iter: 0, ...fields })}\n`;
const endOf = (time: number, reason = "finished") => line("end", time, { reason });

/** A run that began at a second before NOW and, unless it still runs, ended half a second later. */
function madeRun(path: string, ago: number, end?: string, pid = process.pid): string {
  const folder = join(FOLDER, path);
  mkdirSync(folder, { recursive: true });
  const time = NOW - ago * SECOND;
  const start = line("start", time, { resumed: false, name: path, pid, config: { max_iters: 9 }, facts: {} });
  const step = line("step", time + 100, { loss: 1 });
  writeFileSync(join(folder, METRICS_FILE), `${start}${step}${end ? endOf(time + 500, end) : ""}`);
  return folder;
}

const setOf = (...folders: string[]) => new RunSet(folders.map((folder) => join(FOLDER, folder)));
const labels = (set: RunSet) => set.shown.map(({ label }) => label);
const places = (set: RunSet) => Object.fromEntries(set.shown.map(({ label, place }) => [label, place]));

test("a folder stands for its run, or else for those at most three levels below it", () => {
  madeRun("levels/n_head=2/seed-1", 1, "finished");
  madeRun("levels/a/b/c", 2, "finished");
  madeRun("levels/a/b/d/too-deep", 3);
  madeRun("levels/node_modules/package", 3);
  madeRun("levels/.hidden/run", 3);
  madeRun("levels/n_head=2/seed-1/inside", 3);
  madeRun("elsewhere/run", 3);
  symlinkSync(join(FOLDER, "elsewhere"), join(FOLDER, "levels", "link"), "junction");
  const set = setOf("levels");
  assert.equal(set.poll(NOW), true);
  assert.deepEqual(labels(set), ["n_head=2/seed-1", "a/b/c"]); // the last begun first
  assert.equal(set.name, "levels");
  assert.deepEqual([set.others, set.progress], [[], []]);
  assert.equal(set.poll(NOW + 1), false);

  // several folders: their names before the labels, in their order, and no run twice
  const both = setOf("levels/a/b", "levels");
  both.poll(NOW);
  assert.deepEqual(labels(both), ["b/c", "b/d/too-deep", "levels/n_head=2/seed-1"]);
  const run = setOf("levels/n_head=2/seed-1");
  run.poll(NOW);
  assert.deepEqual(labels(run), ["seed-1"]);
  assert.throws(() => setOf("levels", "nowhere"), /no folder .*nowhere; name the out_dir of a run/);
});

test("runs come and go while they are followed; a folder without any waits", () => {
  mkdirSync(join(FOLDER, "coming"));
  const set = setOf("coming");
  set.poll(NOW);
  assert.deepEqual(labels(set), ["coming"]);
  assert.equal(set.shown[0]!.run.status(NOW).state, "waiting");

  madeRun("coming/a/seed-1", 20, "finished");
  set.poll(NOW + 1000);
  assert.deepEqual(labels(set), ["coming"], "it looks every two seconds");
  assert.equal(set.poll(NOW + 2000), true);
  assert.deepEqual(labels(set), ["a/seed-1"]);

  const first = set.shown[0]!.run;
  const second = madeRun("coming/a/seed-2", 1);
  assert.equal(set.poll(NOW + 4000), true);
  assert.deepEqual(places(set), { "a/seed-2": 1, "a/seed-1": 0 });
  assert.equal(set.shown[1]!.run, first, "it is read on, not again");
  appendFileSync(join(second, METRICS_FILE), line("step", NOW, { iter: 1, loss: 0.5 }));
  assert.equal(set.poll(NOW + 4001), true);
  assert.equal(set.shown[0]!.run.history.last("loss"), 0.5);

  rmSync(join(FOLDER, "coming", "a", "seed-1"), { recursive: true });
  assert.equal(set.poll(NOW + 6000), true);
  assert.deepEqual(places(set), { "a/seed-2": 1 });
  // a pipeline's trial is over, and its own run begins
  renameSync(second, join(FOLDER, "coming", "b"));
  madeRun("coming", 0);
  set.poll(NOW + 8000);
  assert.deepEqual(labels(set), ["coming"]);
});

test("of many runs the newest are shown, first those in progress; of the others there is their state", () => {
  for (let i = 0; i < 12; i++) madeRun(`many/run-${i}`, 100 + i, i === 11 ? "failed" : "finished");
  madeRun("many/killed", 500, undefined, gone);
  madeRun("many/slow", 1000);
  const set = setOf("many");
  set.poll(NOW);
  assert.deepEqual(labels(set), ["run-0", "run-1", "run-2", "run-3", "run-4", "run-5", "run-6", "slow"]);
  assert.equal(describeOthers(set.others), "and 6 more: 4 finished, 1 failed, 1 without a sign of life");

  // one that ended long ago goes on: it is shown, in the colour of the one that made room
  const before = places(set);
  const start = { resumed: true, name: "", pid: process.pid, config: {}, facts: {} };
  appendFileSync(join(FOLDER, "many", "run-9", METRICS_FILE), line("start", NOW - 1, start));
  assert.equal(set.poll(NOW + 2000), true);
  const { "run-6": free, ...stay } = before;
  assert.deepEqual(places(set), { ...stay, "run-9": free });
  assert.equal(labels(set)[0], "run-9");
  // and where a shown one is removed, the next comes back with all that it has
  rmSync(join(FOLDER, "many", "run-0"), { recursive: true });
  set.poll(NOW + 4000);
  assert.ok(labels(set).includes("run-6"));
  assert.equal(set.shown.find(({ label }) => label === "run-6")!.run.history.last("loss"), 1);
  assert.equal(describeOthers([]), "");
});

test("of more runs in progress than are shown, those on the screen stay", () => {
  for (let i = 10; i < 20; i++) madeRun(`busy/run-${i}`, 5);
  const set = setOf("busy");
  set.poll(NOW);
  const before = labels(set);
  assert.equal(before.length, 8);
  for (const name of ["run-18", "run-19"]) {
    appendFileSync(join(FOLDER, "busy", name, METRICS_FILE), line("step", NOW, { iter: 1, loss: 0.5 }));
  }
  set.poll(NOW + 2000);
  assert.deepEqual(labels(set), before);
  assert.equal(describeOthers(set.others), "and 2 more: 2 running");
  // the end of one that isn't shown is noticed at once
  appendFileSync(join(FOLDER, "busy", "run-19", METRICS_FILE), endOf(NOW));
  set.poll(NOW + 2001);
  assert.equal(describeOthers(set.others), "and 2 more: 1 running, 1 finished");
});

test("an experiment's file tells how many runs there will be", () => {
  const common = { name: "exp", base: {}, seeds: [1, 2, 3] };
  const experiments: ExperimentSettings[] = [
    { ...common, axes: { n_head: [1, 2], n_layer: [1, 2, 3] } },
    { ...common, search: "list", list: [{ n_head: 1 }, { n_head: 2 }] },
    { ...common, search: "random", trials: 5, axes: { learning_rate: { log_uniform: [1e-4, 1e-2] } } },
  ];
  madeRun("exp/n_head=1/seed-1", 9, "finished");
  madeRun("exp/n_head=1/seed-2", 8, "stopped");
  madeRun("exp/n_head=2/seed-1", 7, "failed");
  madeRun("exp/n_head=2/seed-2", 6);
  const file = join(FOLDER, "exp", "experiment.json");
  const progress = (...folders: string[]) => {
    const set = setOf("exp", ...folders);
    set.poll(NOW);
    return set.progress;
  };
  for (const settings of experiments) {
    const experiment = new ExperimentConfig(settings);
    writeJson(file, experiment.settings);
    const planned = experiment.trials().length * 3;
    assert.deepEqual(progress(), [`runs: 2 of ${planned} finished`]);
  }
  mkdirSync(join(FOLDER, "elsewhere"), { recursive: true });
  assert.deepEqual(progress("elsewhere"), ["exp: 2 of 15 finished"]);
  // it had more runs than it has now; another program's file; a cut one; none
  writeJson(file, new ExperimentConfig({ ...common, seeds: [1], axes: { n_head: [1, 2] } }).settings);
  assert.deepEqual(progress(), []);
  for (const text of [`{"search":"grid"}`, "{", ""]) {
    writeFileSync(file, text);
    assert.deepEqual(progress(), []);
  }
  rmSync(file);
  assert.deepEqual(progress(), []);
});
