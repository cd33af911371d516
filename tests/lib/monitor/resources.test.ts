// lib/common/clock.ts, lib/monitor/resources.ts and lib/common/log.ts.

import assert from "node:assert/strict";
import { chmodSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { mock, test } from "node:test";
import { Clock } from "../../../lib/common/clock.ts";
import { Log } from "../../../lib/common/log.ts";
import type { EvaluateEvent, Metrics } from "../../../lib/monitor/callback.ts";
import { gpuMemoryMb, resources } from "../../../lib/monitor/resources.ts";
import { temporaryFolder } from "../../scripts.ts";

const FOLDER = temporaryFolder();

test("laps add up to all the time that went by, and are counted once", (t) => {
  let now = 1000;
  t.mock.method(performance, "now", () => now);
  const clock = new Clock();
  const spend = (ms: number, name: string) => {
    now += ms;
    return clock.lap(name);
  };
  assert.equal(spend(500, "data"), 0.5);
  spend(1000, "compute");
  spend(250, "data");
  assert.deepEqual(clock.take(), { data: 0.75, compute: 1 });
  spend(125, "update");
  assert.deepEqual(clock.take(), { update: 0.125 });
  assert.deepEqual(clock.take(), {});
});

test("speeds since the last evaluation: their mean over time, the median, and what 95 % of the steps reach", () => {
  const callback = resources(new Clock());
  const evaluate = () => {
    const event: EvaluateEvent = { iter: 0, metrics: {}, best: false, texts: new Map() };
    callback.onEvaluate!(event);
    return event.metrics;
  };
  assert.deepEqual(evaluate(), {}); // before the first step there is no speed
  // 100 steps of 1,000 tokens: 95 take 10 ms, five take 100 ms
  for (let iter = 0; iter < 100; iter++) {
    const step_ms = iter % 20 === 7 ? 100 : 10;
    callback.onStep!({ iter, metrics: { step_ms, tokens_per_s: 1e6 / step_ms }, gradScale: 1, histograms: new Map() });
  }
  const metrics = evaluate();
  assert.ok(Math.abs(metrics["tokens_per_s/mean"]! - 100_000 / 1.45) < 1e-6);
  assert.equal(metrics["tokens_per_s/p50"], 100_000);
  assert.equal(metrics["tokens_per_s/p95"], 10_000);
  assert.deepEqual(evaluate(), {});
});

test("once a second a step gets the processor's share and the memory in use, as the system counts them", (t) => {
  let now = performance.now();
  t.mock.method(performance, "now", () => now);
  const callback = resources(new Clock());
  const step = (): Metrics => {
    const metrics: Metrics = { step_ms: 10, tokens_per_s: 1 };
    callback.onStep!({ iter: 0, metrics, gradScale: 1, histograms: new Map() });
    return metrics;
  };
  assert.equal(step().rss_mb, undefined);
  const before = process.cpuUsage();
  for (const until = Date.now() + 60; Date.now() < until; ) Math.sqrt(now); // work
  const { user, system } = process.cpuUsage(before);
  now += 1001;
  const { cpu_percent, rss_mb } = step();
  assert.ok(cpu_percent! >= (100 * (user + system)) / 1000 / 1001, `${cpu_percent} % of a second`);
  assert.ok(cpu_percent! < 100 * 16);
  assert.ok(Math.abs(rss_mb! - process.memoryUsage.rss() / 2 ** 20) < 50);
  assert.equal(step().rss_mb, undefined);
});

test("memory on a GPU is this process' rows of nvidia-smi; without one it is unknown", async () => {
  assert.equal(await gpuMemoryMb(12, join(FOLDER, "no-such-program")), null);
  const program = join(FOLDER, "nvidia-smi");
  writeFileSync(program, '#!/bin/sh\nprintf "12, 300\\n99, 5000\\n12, 24\\n"\n');
  chmodSync(program, 0o755);
  if (process.platform !== "win32") assert.equal(await gpuMemoryMb(12, program), 324);
});

test("the log keeps what was printed before it was opened and after, and what others printed", () => {
  const printed = mock.method(console, "log", () => {});
  const log = new Log();
  log.line("first");
  const path = join(FOLDER, "logs", "run.log");
  log.open(path);
  log.line("second");
  log.keep("error: third");
  log.close();
  printed.mock.restore();
  assert.equal(readFileSync(path, "utf8"), "first\nsecond\nerror: third\n");
  assert.deepEqual(
    printed.mock.calls.map(({ arguments: [line] }) => line),
    ["first", "second"],
  );
});

test("a log on a full disk says so once, and everything is still printed", {
  skip: !existsSync("/dev/full") && "no /dev/full here",
}, () => {
  mkdirSync(join(FOLDER, "full"));
  symlinkSync("/dev/full", join(FOLDER, "full", "run.log"));
  const printed = mock.method(console, "log", () => {});
  const log = new Log();
  log.open(join(FOLDER, "full", "run.log"));
  log.line("one");
  log.line("two");
  printed.mock.restore();
  const lines = printed.mock.calls.map(({ arguments: [line] }) => String(line));
  assert.deepEqual([lines[0], lines[2], lines.length], ["one", "two", 3]);
  assert.match(lines[1]!, /^the log file can't be written from here on: ENOSPC/);
});
