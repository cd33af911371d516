import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { METRICS_FILE, type MetricsEvent } from "../../../lib/monitor/metrics_file.ts";
import {
  finalMetrics,
  historyOf,
  RESULTS_FILE,
  readResults,
  readRun,
  thinned,
  wallSeconds,
} from "../../../tools/experiment/results.ts";
import { temporaryFolder } from "../../scripts.ts";

const start = (time: number, iter: number, resumed: boolean): MetricsEvent => ({
  ...{ event: "start", time, iter, resumed, name: "a", pid: 1, config: {}, facts: { parameters: 1234 } },
});
const step = (time: number, iter: number, more = {}): MetricsEvent => ({ event: "step", time, iter, loss: 3, ...more });

function written(events: object[]): string {
  const folder = temporaryFolder();
  writeFileSync(join(folder, METRICS_FILE), events.map((event) => `${JSON.stringify(event)}\n`).join(""));
  return folder;
}

test("final metrics are those of the last evaluation, the highest memory, and the median speed", () => {
  const folder = written([
    start(1000, 0, false),
    { event: "evaluate", time: 1000, iter: 0, "train/loss": 4, "val/loss": 4.1 },
    step(1100, 0, { tokens_per_s: 10, rss_mb: 100 }),
    { event: "evaluate", time: 1200, iter: 1, "train/loss": 1.9, "val/loss": 2 },
    step(1300, 1, { tokens_per_s: 30, rss_mb: 300 }),
    { event: "evaluate", time: 1400, iter: 2, "train/loss": 2, "val/loss": 2.5 },
    step(1500, 2, { tokens_per_s: 20, rss_mb: 200 }),
    { event: "end", time: 3500, iter: 3, reason: "finished" },
  ]);
  assert.deepEqual(finalMetrics(readRun(folder)!), {
    "val/loss": 2.5,
    "train/loss": 2,
    perplexity: Number(Math.exp(2.5).toPrecision(7)),
    "best/val/loss": 2,
    wall_s: 2.5,
    peak_rss_mb: 300,
    parameters: 1234,
    train_tokens_per_s: 20,
  });
});

test("time adds up over the sessions of a run that was resumed, not over one that began anew", () => {
  const first = [start(0, 0, false), step(4000, 0)]; // killed: 4 s
  const resumed = [start(100_000, 1, true), step(101_000, 1)]; // 1 s
  assert.equal(wallSeconds([...first, ...resumed]), 5);
  assert.equal(wallSeconds([...first, start(100_000, 0, false), step(101_000, 1)]), 1);
});

test("a run whose loss is no number has null as its metric", () => {
  const folder = written([start(0, 0, false), { event: "evaluate", time: 1, iter: 0, "val/loss": null }]);
  const metrics = finalMetrics(readRun(folder)!);
  assert.deepEqual([metrics["val/loss"], metrics.perplexity, "best/val/loss" in metrics], [null, null, false]);
});

test("a folder without a run tells nothing", () => {
  assert.equal(readRun(temporaryFolder()), undefined);
  assert.equal(readRun(join(temporaryFolder(), "absent")), undefined);
});

test("a long history is thinned, with its first and last point; null is a number that is none", () => {
  const steps = Array.from({ length: 2001 }, (_, i) => step(i, i, { loss: i === 2000 ? null : i }));
  const { history } = readRun(written([start(0, 0, false), ...steps]))!;
  const { loss } = thinned(history);
  assert.ok(loss!.iters.length <= 501);
  assert.deepEqual([loss!.iters[0], loss!.iters.at(-1), loss!.values.at(-1)], [0, 2000, null]);
  const back = historyOf({ history: JSON.parse(JSON.stringify(thinned(history))) });
  assert.deepEqual(back.series.get("loss")!.iters, loss!.iters);
  assert.ok(Number.isNaN(back.last("loss")));
});

test("results.json that is cut or of another make counts as none", () => {
  const folder = temporaryFolder();
  assert.equal(readResults(folder), undefined);
  for (const text of ['{"format_version":1,', "[]", '{"state":"finished"}']) {
    writeFileSync(join(folder, RESULTS_FILE), text);
    assert.equal(readResults(folder), undefined, text);
  }
});
