// lib/monitor/metrics_file.ts: what is written is read again, also where a file was cut, is still being written, was replaced,
// or tells of steps that came more than once; and a disk that is full is not passed over.

import assert from "node:assert/strict";
import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import test from "node:test";

import type { Callback } from "../../../lib/monitor/callback.ts";
import {
  at,
  History,
  METRICS_FILE,
  MetricsReader,
  metricsFile,
  readHistory,
} from "../../../lib/monitor/metrics_file.ts";
import { temporaryFolder } from "../../scripts.ts";
import { userError } from "../text/support.ts";
import { aRun, end, evaluate, step } from "./support.ts";

const FOLDER = temporaryFolder();
const newFolder = () => mkdtempSync(join(FOLDER, "run-"));
const pathOf = (outDir: string) => join(outDir, METRICS_FILE);
const linesOf = (outDir: string) => readFileSync(pathOf(outDir), "utf8").split("\n");

const checkpoint = (callback: Callback, iter: number) =>
  callback.onCheckpoint!({ iter, path: "ckpt.json", seconds: 0.25 });

async function started(outDir: string, startIter?: number): Promise<Callback> {
  const callback = metricsFile();
  const resumption = startIter === undefined ? {} : { startIter, resumed: true };
  await callback.onTrainStart!(aRun(outDir, resumption));
  return callback;
}

/** Steps `from` to `to` - 1, whose loss is `loss` + their number. */
async function steps(callback: Callback, from: number, to: number, loss: number): Promise<void> {
  for (let iter = from; iter < to; iter++) await step(callback, iter, { loss: loss + iter });
}

const series = (history: History, name: string) => {
  const { iters, values } = history.series.get(name) ?? { iters: [], values: [] };
  return iters.map((iter, i) => [iter, values[i]]);
};

// ---- the file ----------------------------------------------------------------------------------------------------

test("what was written is read: every kind of event, seven digits of a number, a line each", async () => {
  const outDir = newFolder();
  const began = Date.now();
  const callback = await started(outDir);
  await step(callback, 0, { loss: 1 / 3, lr: 1.23456789e-12, count: 123456789, "time/data": 0 });
  await evaluate(callback, 1, { sample: "two\nlines, naïve 東京 🙂", "": "" }, 2.5);
  await checkpoint(callback, 1);
  await callback.onTrainEnd!({ iter: 1, reason: "stopped", why: "because" });

  const lines = linesOf(outDir);
  assert.equal(lines.length, 8);
  assert.equal(lines.at(-1), "");
  const reader = new MetricsReader(outDir);
  const events = reader.read().map(({ time, ...rest }) => {
    assert.ok(time >= began && time <= Date.now());
    return rest;
  });
  const { name, config, facts } = aRun(outDir);
  assert.deepEqual(events, [
    { event: "start", iter: 0, resumed: false, name, pid: process.pid, config, facts },
    { event: "step", iter: 0, loss: 0.3333333, lr: 1.234568e-12, count: 123456789, "time/data": 0 },
    { event: "evaluate", iter: 1, "val/loss": 2.5 },
    { event: "text", iter: 1, name: "sample", text: "two\nlines, naïve 東京 🙂" },
    { event: "text", iter: 1, name: "", text: "" },
    { event: "checkpoint", iter: 1, seconds: 0.25 },
    { event: "end", iter: 1, reason: "stopped", why: "because" },
  ]);
  assert.equal(reader.broken, 0);
  assert.deepEqual(reader.read(), []);
});

test("a number that JSON has no word for is null in the file, and NaN once it is read", async () => {
  const outDir = newFolder();
  const callback = await started(outDir);
  await step(callback, 0, { loss: Number.NaN, lr: Number.POSITIVE_INFINITY, grad_norm: 1 });
  await step(callback, 1, { loss: 2 });
  await end(callback, 2);
  assert.match(linesOf(outDir)[1]!, /"loss":null,"lr":null,"grad_norm":1}/);
  const history = readHistory(outDir);
  assert.deepEqual(at(history, 0), { loss: Number.NaN, lr: Number.NaN, grad_norm: 1 });
  assert.deepEqual(series(history, "loss"), [
    [0, Number.NaN],
    [1, 2],
  ]);
});

test("a line that a kill cut is one broken line, and the resumed run's first one is whole", async () => {
  const outDir = newFolder();
  const killed = await started(outDir);
  await steps(killed, 0, 3, 100);
  const whole = readFileSync(pathOf(outDir));
  truncateSync(pathOf(outDir), whole.length - 9);
  const resumed = await started(outDir, 2);
  await steps(resumed, 2, 4, 200);
  await end(resumed, 4);

  const reader = new MetricsReader(outDir);
  const history = new History().add(reader.read());
  assert.equal(reader.broken, 1);
  assert.equal(history.start!.resumed, true);
  assert.deepEqual(series(history, "loss"), [
    [0, 100],
    [1, 101],
    [2, 202],
    [3, 203],
  ]);
  const { length } = linesOf(outDir);
  assert.equal(length, 4 + 1 + 2 + 1 + 1); // two whole ones, the cut one, ... and nothing after the last line break
});

test("a file whose lines are whole gets no empty one where a run goes on", async () => {
  const outDir = newFolder();
  for (const startIter of [undefined, 1, 2]) {
    const callback = await started(outDir, startIter);
    await end(callback, startIter ?? 0);
  }
  assert.equal(linesOf(outDir).filter((line) => line === "").length, 1); // after the last line break
});

test("lines that are no event are counted and passed over", () => {
  const outDir = newFolder();
  const bad = ["null", "3", "[]", "{}", '{"event":"step"}', '{"event":3,"iter":3}', "nonsense", "{", '"'];
  const good = '{"event":"start","time":5,"iter":0,"resumed":false,"name":"a","pid":1,"config":{},"facts":{}}';
  const alien = '{"event":"of another version","time":6,"iter":0}';
  writeFileSync(pathOf(outDir), [...bad, good, "", alien, ""].join("\n"));
  const reader = new MetricsReader(outDir);
  const history = new History().add(reader.read());
  assert.equal(reader.broken, bad.length);
  assert.equal(history.start!.name, "a");
  assert.equal(history.time, 6);
  assert.equal(history.series.size, 0);
});

test("an event that lacks what it has to say is damaged: there is no run without a whole start", () => {
  const outDir = newFolder();
  const start = { event: "start", time: 5, iter: 0, resumed: false, name: "a", pid: 1, config: {}, facts: {} };
  const end = { event: "end", time: 6, iter: 3, reason: "finished" };
  const write = (...events: object[]) =>
    writeFileSync(pathOf(outDir), events.map((event) => `${JSON.stringify(event)}\n`).join(""));
  write(end);
  assert.throws(() => readHistory(outDir), userError(/no run in/));
  assert.equal(new History().add(new MetricsReader(outDir).read()).end, undefined); // of which run?
  for (const key of ["config", "facts", "name", "pid", "resumed", "time"]) {
    write({ ...start, [key]: undefined }, { event: "step", time: 6, iter: 0, loss: 1 }, end);
    assert.throws(
      () => readHistory(outDir),
      userError(/1 lines of metrics\.jsonl are damaged, and no start is whole/),
      key,
    );
  }
  write(start, { ...end, reason: { toString: null } });
  assert.equal(readHistory(outDir).end, undefined);
});

test("of 3,000 names of metrics not all are kept", () => {
  const outDir = newFolder();
  const names = Object.fromEntries(Array.from({ length: 3000 }, (_, i) => [`metric ${i}`, i]));
  const start = { event: "start", time: 5, iter: 0, resumed: false, name: "a", pid: 1, config: {}, facts: {} };
  const step = { event: "step", time: 6, iter: 0, loss: 1, ...names };
  writeFileSync(pathOf(outDir), `${JSON.stringify(start)}\n${JSON.stringify(step)}\n`);
  const { series } = readHistory(outDir);
  assert.ok(series.size <= 2000, `${series.size} names`);
  assert.deepEqual(series.get("loss"), { iters: [0], values: [1] });
});

// ---- as it grows -------------------------------------------------------------------------------------------------

test("a reader takes a line when it is whole, wherever the file ended at each look, within a character too", () => {
  const outDir = newFolder();
  const reader = new MetricsReader(outDir);
  assert.deepEqual(reader.read(), []); // no file yet
  const lines = [
    { event: "text", time: 1, iter: 0, name: "é", text: "naïve 東京 🙂" },
    { event: "step", time: 2, iter: 0, loss: 1.5 },
    { event: "text", time: 3, iter: 1, name: "b", text: "🙂🙂" },
  ];
  const bytes = Buffer.from(lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
  const seen: unknown[] = [];
  for (let i = 0; i < bytes.length; i++) {
    appendFileSync(pathOf(outDir), bytes.subarray(i, i + 1));
    const got = reader.read();
    assert.equal(got.length, bytes[i] === 0x0a ? 1 : 0, `byte ${i}`);
    seen.push(...got);
  }
  assert.deepEqual(seen, lines);
  assert.equal(reader.broken, 0);
});

test("a file that a shorter one has replaced is read from its beginning, without the half line of the old one", async () => {
  const outDir = newFolder();
  const reader = new MetricsReader(outDir);
  const history = new History();
  await steps(await started(outDir), 0, 20, 100);
  appendFileSync(pathOf(outDir), '{"event":"step","ti');
  history.add(reader.read());
  assert.equal(series(history, "loss").length, 20);
  writeFileSync(pathOf(outDir), "");
  await steps(await started(outDir), 0, 2, 200);
  history.add(reader.read());
  assert.equal(reader.broken, 0);
  assert.deepEqual(series(history, "loss"), [
    [0, 200],
    [1, 201],
  ]);
});

test("20,000 steps are read at once, and while they come", () => {
  const count = 20_000;
  const outDir = newFolder();
  const start = { event: "start", time: 1, iter: 0, resumed: false, name: "a", pid: 1, config: {}, facts: {} };
  const reader = new MetricsReader(outDir);
  const followed = new History();
  appendFileSync(pathOf(outDir), `${JSON.stringify(start)}\n`);
  for (let from = 0; from < count; from += 500) {
    const lines = Array.from({ length: 500 }, (_, i) =>
      JSON.stringify({
        event: "step",
        time: 2,
        iter: from + i,
        loss: from + i,
        lr: 1e-3,
        step_ms: 2.5,
        tokens_per_s: 9,
      }),
    );
    appendFileSync(pathOf(outDir), `${lines.join("\n")}\n`);
    followed.add(reader.read());
  }
  for (const history of [followed, readHistory(outDir)]) {
    assert.equal(history.iter, count);
    assert.deepEqual([...history.series.keys()], ["loss", "lr", "step_ms", "tokens_per_s"]);
    const { iters, values } = history.series.get("loss")!;
    assert.equal(iters.length, count);
    assert.ok(iters.every((iter, i) => iter === i && values[i] === i));
  }
});

// ---- what it tells -----------------------------------------------------------------------------------------------

test("a run as it goes: the step that comes next, the last values, the end", async () => {
  const outDir = newFolder();
  const callback = await started(outDir);
  await evaluate(callback, 0, {}, 9);
  await steps(callback, 0, 2, 100);
  const history = readHistory(outDir);
  assert.deepEqual([history.iter, history.last("loss"), history.last("val/loss")], [2, 101, 9]);
  assert.deepEqual([history.last("no such"), history.end], [undefined, undefined]);
  await end(callback, 2, "interrupted");
  assert.equal(readHistory(outDir).end!.reason, "interrupted");
  const resumed = await started(outDir, 2);
  assert.equal(readHistory(outDir).end, undefined);
  await end(resumed, 2);
});

test("a resumed run's steps, texts and checkpoints overtake the killed one's", async () => {
  const outDir = newFolder();
  const killed = await started(outDir);
  await evaluate(killed, 0, { sample: "old 0" }, 50);
  await steps(killed, 0, 4, 100);
  await evaluate(killed, 4, { sample: "old 4" }, 54);
  await checkpoint(killed, 4);
  await step(killed, 4, { loss: 104, rss_mb: 7 }); // rss_mb doesn't come again
  await steps(killed, 5, 8, 100);
  const resumed = await started(outDir, 4);
  assert.deepEqual(series(readHistory(outDir), "loss").at(-1), [3, 103]);
  await evaluate(resumed, 4, { sample: "new 4" }, 64);
  await checkpoint(resumed, 4);
  await steps(resumed, 4, 6, 200);
  const history = readHistory(outDir);
  assert.deepEqual(
    series(history, "loss").map(([, value]) => value),
    [100, 101, 102, 103, 204, 205],
  );
  assert.deepEqual(series(history, "val/loss"), [
    [0, 50],
    [4, 64],
  ]);
  assert.equal(history.series.has("rss_mb"), false);
  assert.deepEqual(
    history.texts.map(({ text }) => text),
    ["old 0", "new 4"],
  );
  assert.deepEqual(
    history.checkpoints.map(({ iter }) => iter),
    [4],
  );
  assert.deepEqual([history.iter, history.start!.iter], [6, 4]);
});

for (const first of ["an evaluation", "a step"]) {
  test(`after a roll back, where ${first} comes first, what came after that step is gone`, async () => {
    const outDir = newFolder();
    const callback = await started(outDir);
    await steps(callback, 0, 3, 100);
    await evaluate(callback, 3, { sample: "old 3" }, 53);
    await step(callback, 3, { loss: 103, rss_mb: 7 });
    await evaluate(callback, 4, { sample: "old 4" }, 54);
    await checkpoint(callback, 4);
    if (first === "an evaluation") await evaluate(callback, 2, {}, 62);
    await step(callback, 2, { loss: 202 });
    const history = readHistory(outDir);
    assert.deepEqual(
      series(history, "loss").map(([, value]) => value),
      [100, 101, 202],
    );
    assert.deepEqual(series(history, "val/loss"), first === "an evaluation" ? [[2, 62]] : []);
    assert.deepEqual([history.texts, history.checkpoints, history.series.has("rss_mb")], [[], [], false]);
    assert.equal(history.iter, 3);
  });
}

test("a second run from scratch in the same folder is all that counts", async () => {
  const outDir = newFolder();
  const before = await started(outDir);
  await evaluate(before, 0, { sample: "old" }, 50);
  await steps(before, 0, 5, 100);
  await checkpoint(before, 5);
  await end(before, 5);
  const callback = await started(outDir);
  const history = readHistory(outDir);
  assert.deepEqual([history.series.size, history.texts, history.checkpoints, history.iter], [0, [], [], 0]);
  await steps(callback, 0, 1, 200);
  assert.deepEqual(series(readHistory(outDir), "loss"), [[0, 200]]);
});

// ---- ill events --------------------------------------------------------------------------------------------------

test("a folder without a run is an error of one line that names it; so is a file that can't be read", () => {
  const outDir = newFolder();
  const oneLine = (error: Error) => error.name === "UserError" && !error.message.includes("\n");
  const about = (text: string) => (error: Error) => oneLine(error) && error.message.includes(text);
  assert.throws(() => readHistory(outDir), about(`no run in ${outDir} (no metrics.jsonl there`));
  assert.throws(() => readHistory(join(outDir, "missing")), about("no run in"));
  writeFileSync(pathOf(outDir), '{"event":"start","ti'); // killed within its first line
  assert.throws(() => readHistory(outDir), about("no run in"));
  const folder = newFolder();
  symlinkSync(folder, pathOf(folder)); // a folder in the file's place
  assert.throws(() => readHistory(folder), about(pathOf(folder)));
});

const FULL = { skip: !existsSync("/dev/full") && "no /dev/full here" };

test("a full disk is an error at the start, at a step, and at the end", FULL, async () => {
  const outDir = newFolder();
  symlinkSync("/dev/full", pathOf(outDir));
  const callback = metricsFile();
  const full = { code: "ENOSPC" };
  await assert.rejects(async () => callback.onTrainStart!(aRun(outDir)), full);
  await assert.rejects(async () => step(callback, 0, { loss: 1 }), full);
  await assert.rejects(async () => end(callback, 1), full);
});
