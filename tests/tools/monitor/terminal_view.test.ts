// tools/monitor/terminal_view.ts and what it draws from: states, figures, a chart; never wider or higher than the terminal, and
// nothing that a text says to a terminal comes through.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { stripVTControlCharacters } from "node:util";
import { duration, percent, short, significant, ticks } from "../../../lib/common/format.ts";
import { History, type MetricsEvent } from "../../../lib/monitor/metrics_file.ts";
import { drawChart } from "../../../tools/monitor/braille_chart.ts";
import { describeState, statusOf } from "../../../tools/monitor/run_status.ts";
import { cut, drawRuns, widthOf } from "../../../tools/monitor/terminal_view.ts";

const SECOND = 1000;
const BEGIN = 1_764_000_000_000;
const gone = spawnSync(process.execPath, ["--version"]).pid;

/** 100 steps of a second each, evaluated every 20. */
function history(...more: MetricsEvent[]): History {
  const config = { max_iters: 200 };
  const facts = { device: "cpu", parameters: 10_745_088, dataset: "shakespeare_char" };
  const start = { event: "start" as const, time: BEGIN, iter: 0, resumed: false, name: "a", pid: gone, config, facts };
  const events: MetricsEvent[] = [start];
  for (let iter = 0; iter < 100; iter++) {
    const time = BEGIN + (iter + 1) * SECOND;
    if (iter % 20 === 0)
      events.push({ event: "evaluate", time, iter, "val/loss": 4 - iter / 50 + (iter > 60 ? 2 : 0) });
    events.push({ event: "step", time, iter, loss: 4 - iter / 40, lr: 6e-4, tokens_per_s: 35_912, rss_mb: 512.4 });
  }
  return new History().add([...events, ...more]);
}

const END = BEGIN + 100 * SECOND;

test("how a run stands", () => {
  const status = statusOf(history(), END, () => true);
  assert.deepEqual(status, {
    ...{ state: "running", time: END, step: 100, steps: 200, secondsLeft: 100 },
    best: { loss: 4 - 60 / 50, step: 60 },
  });
  const dead = statusOf(history(), END + 95 * SECOND);
  assert.equal(dead.state, "silent");
  assert.equal(describeState(dead, END + 95 * SECOND), "no sign of life for 1 min");
  assert.equal(statusOf(history(), END + SECOND).state, "running"); // lines come: it may be another machine's process
  assert.equal(statusOf(new History(), END).state, "waiting");
  const failed = history({ event: "end", time: END, iter: 100, reason: "failed", why: "disk full" });
  assert.equal(describeState(statusOf(failed, END), END), "failed: disk full");
  const whole = history({ event: "end", time: END, iter: 201, reason: "finished" });
  assert.equal(statusOf(whole, END).step, 200);
  const started = new History().add([{ ...history().start!, iter: 7, resumed: true }]);
  assert.deepEqual(statusOf(started, BEGIN), { state: "running", time: BEGIN, step: 7, steps: 200 });
});

test("a run's lines", () => {
  const run = { label: "out-a", place: 0, history: history(), status: statusOf(history(), END, () => true) };
  const lines = drawRuns([run], { columns: 80, rows: 30, color: false, now: END });
  assert.deepEqual(lines.slice(0, 5), [
    "out-a  running  shakespeare_char · 10.7M parameters · cpu",
    `${"█".repeat(19)}${"░".repeat(19)}  step 100 of 200 · 50 % · 1 min 40 s left`,
    "loss 1.5250   val loss 4.4000   best val loss 2.8000 at 60   lr 6e-4",
    "tokens/s 35.9k   memory 512 MB",
    "",
  ]);
  assert.match(lines[5]!, /^loss: line each step \(mean\), ● validation/);
  assert.equal(lines.join("").match(/●/g)!.length, 1 + 5);
  assert.equal(lines.at(-1), "    step 0            20            40            60             80");
});

/** A run of an experiment that ended `ago` seconds before END, or runs. */
function drawn(place: number, ago: number, reason?: string) {
  const end = reason === undefined ? [] : [{ event: "end" as const, time: END - ago * SECOND, iter: 101, reason }];
  const of = history(...end);
  return { label: `seed-${place}`, place, history: of, status: statusOf(of, END, () => true) };
}

test("many runs: those that ended first shrink to a line, and then go into the count of others", () => {
  const runs = [
    drawn(2, 0),
    ...[1, 3, 4, 5, 6, 7].map((place) => drawn(place, place, "finished")),
    drawn(0, 9, "failed"),
  ];
  const others = Array.from({ length: 10 }, () => drawn(0, 99, "finished").status);
  const draw = (rows: number) => {
    const screen = { columns: 80, rows, color: false, now: END };
    const lines = drawRuns(runs, screen, { others, progress: ["runs: 16 of 18 finished"] });
    assert.ok(lines.length <= rows);
    return lines;
  };
  const full = draw(80);
  assert.equal(full[0], "runs: 16 of 18 finished");
  assert.equal(full.filter((line) => line.includes("█")).length, 8);
  assert.equal(full.filter((line) => line === "and 10 more: 10 finished").length, 1);

  const low = draw(24);
  assert.deepEqual(low.slice(1, 8), [
    "▲ seed-2  running  shakespeare_char · 10.7M parameters · cpu",
    `${"█".repeat(19)}${"░".repeat(19)}  step 100 of 200 · 50 % · 1 min 40 s left`,
    "loss 1.5250   val loss 4.4000   best val loss 2.8000 at 60   lr 6e-4",
    "tokens/s 35.9k   memory 512 MB",
    "",
    "■ seed-1  finished  val loss 4.4000   best val loss 2.8000 at 60",
    "◆ seed-3  finished  val loss 4.4000   best val loss 2.8000 at 60",
  ]);
  assert.equal(low[12], "● seed-0  failed  val loss 4.4000   best val loss 2.8000 at 60");
  assert.equal(low[13], "and 10 more: 10 finished");
  assert.match(low.at(-1)!, /step 0 /, "the chart has room");
  assert.ok(draw(40).filter((line) => line.includes("█")).length > 2);

  assert.deepEqual(
    draw(5),
    [
      "runs: 16 of 18 finished",
      "▲ seed-2  running  step 100 of 200   val loss 4.4000   best val loss 2.8000 at 60",
      "■ seed-1  finished  val loss 4.4000   best val loss 2.8000 at 60",
      "◆ seed-3  finished  val loss 4.4000   best val loss 2.8000 at 60",
      "and 15 more: 14 finished, 1 failed",
    ].map((line) => cut(line, 80)),
  );
  assert.equal(draw(2)[1], "and 18 more: 1 running, 16 finished, 1 failed");
});

test("no line is wider and no picture higher than the terminal, with colours too", () => {
  const text = { event: "text" as const, time: END, iter: 80, name: "sample", text: "漢字🙂 é ".repeat(30) };
  const runs = ["out-a", "a-name-that-is-quite-long-for-a-run", "🙂".repeat(20)].map((label, place) => {
    return { label, place, history: history(text), status: statusOf(history(), END + 99 * SECOND) };
  });
  for (const color of [false, true]) {
    for (let columns = 1; columns <= 130; columns += 3) {
      for (const rows of [1, 5, 12, 24, 60]) {
        for (const count of [1, 3]) {
          const others = [runs[0]!.status];
          const beside = { others: count === 1 ? [] : others, progress: ["an experiment's name: 1 of 18 finished"] };
          const lines = drawRuns(runs.slice(0, count), { columns, rows, color, now: END }, beside);
          assert.ok(lines.length <= rows, `${lines.length} lines in ${rows}`);
          for (const line of lines) {
            const width = widthOf(stripVTControlCharacters(line));
            assert.ok(width <= columns, `${width} columns in ${columns}: ${line}`);
          }
        }
      }
    }
  }
});

test("what a text says to a terminal is left out", () => {
  const text = {
    event: "text" as const,
    time: END,
    iter: 80,
    name: "s\x1b[2J",
    text: "a\x1b]0;title\x07b\x9b2Jc\td\re\u202e",
  };
  const failed = { event: "end" as const, time: END, iter: 90, reason: "failed", why: "x\n\x1b[31my" };
  const run = {
    label: "o\x1b[5m\n",
    place: 0,
    history: history(text, failed),
    status: statusOf(history(text, failed), END),
  };
  const lines = drawRuns([run], { columns: 80, rows: 30, color: false, now: END });
  assert.doesNotMatch(lines.join(""), /[\p{Cc}\p{Cf}]/u);
  assert.match(lines[0]!, /^o {3}failed: x y/);
});

test("a chart's line goes through its points", () => {
  const curve = { iters: [0, 100], values: [1, 0], color: 0 };
  const plain = (_: number, text: string) => text;
  const lines = drawChart([curve], { columns: 29, rows: 7 }, plain);
  assert.equal(lines.length, 7);
  assert.match(lines[0]!, /^ {6}1 ┤[⠀-⣿]+$/);
  assert.match(lines[4]!, /^ {6}0 ┤ {16}[⠀-⣿]{4}$/);
  assert.deepEqual(drawChart([curve], { columns: 20, rows: 7 }, plain), []);
  assert.deepEqual(drawChart([{ ...curve, values: [Number.NaN, Number.NaN] }], { columns: 40, rows: 9 }, plain), []);
  assert.equal(drawChart([{ iters: [3], values: [2], color: 0 }], { columns: 40, rows: 9 }, plain).length, 9);
});

test("numbers as a person reads them", () => {
  assert.deepEqual([2.31249, 6e-4, 0, 12_345, 1.234e7, Number.NaN].map(significant), [
    ...["2.312", "6e-4", "0", "12350", "1.23e+7", "NaN"],
  ]);
  assert.deepEqual([999, 999.9, 35_912, 10_745_088].map(short), ["999", "1k", "35.9k", "10.7M"]);
  assert.deepEqual([0, 0.0042, 0.413, 1].map(percent), ["0 %", "0.4 %", "41 %", "100 %"]);
  assert.deepEqual([0.2, 59.6, 125, 3600, 4800, 273_600].map(duration), [
    ...["0 s", "1 min", "2 min 5 s", "1 h", "1 h 20 min", "3 d 4 h"],
  ]);
  assert.deepEqual(ticks(0.9, 4.1, 5), [1, 2, 3, 4]);
  assert.deepEqual(ticks(0, 1, 4), [0, 0.25, 0.5, 0.75, 1]);
  assert.deepEqual(ticks(5, 5, 4), [5]);
  assert.deepEqual([cut("漢字", 4), cut("漢字", 3), cut("abc", 1), cut("abc", 0)], ["漢字", "漢…", "…", ""]);
});
