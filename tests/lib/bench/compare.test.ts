// What counts as a change between two reports, and how it is told. Run: npm test -- tests/lib/bench/compare.test.ts

import assert from "node:assert/strict";
import { test } from "node:test";

import { exact, type Metric, metric, rate } from "../../../lib/bench/benchmark.ts";
import { compare, judge } from "../../../lib/bench/compare.ts";
import type { Report } from "../../../lib/bench/report.ts";

const ms = (...samples: number[]) => metric("ms", "ms", "lower", samples);
const speed = (...samples: number[]) => metric("speed", "tokens/s", "higher", samples);

test("a change counts where the middle halves of the samples don't overlap", () => {
  assert.equal(judge(ms(10, 10.1, 10.2, 9.9), ms(12, 12.1, 12.2, 11.9)), "worse");
  assert.equal(judge(ms(12, 12.1, 12.2, 11.9), ms(10, 10.1, 10.2, 9.9)), "better");
  assert.equal(judge(speed(100, 101, 102), speed(80, 81, 82)), "worse");
  assert.equal(judge(speed(80, 81, 82), speed(100, 101, 102)), "better");
});

test("a change within the noise of either doesn't", () => {
  assert.equal(judge(ms(8, 10, 14, 16), ms(12, 12.1, 12.2, 11.9)), "same", "the old one's noise");
  assert.equal(judge(ms(10, 10.1, 10.2, 9.9), ms(9, 10, 14, 16)), "same", "the new one's noise");
  assert.equal(judge(ms(10, 10, 10, 30), ms(10, 10, 10, 10)), "same", "one outlier");
});

test("nor one below 3 %, however small the samples' noise", () => {
  assert.equal(judge(ms(100, 100, 100), ms(102, 102, 102)), "same");
  assert.equal(judge(ms(100, 100, 100), ms(104, 104, 104)), "worse");
});

test("too few samples have no verdict", () => {
  assert.equal(judge(ms(10, 10), ms(50, 50, 50)), "unknown");
  assert.equal(judge(ms(10, 10, 10), ms(50)), "unknown");
});

test("a rate is that of the median time, for an even number of samples too", () => {
  const { value, samples } = rate("speed", "tokens/s", [100, 300], 10);
  assert.equal(value, 50);
  assert.deepEqual(samples, [100, 33.3333]);
});

test("exact figures change by a byte", () => {
  const bytes = (value: number) => exact("bytes", "bytes", "lower", value);
  assert.equal(judge(bytes(1000), bytes(1000)), "same");
  assert.equal(judge(bytes(1000), bytes(1001)), "worse");
  assert.equal(judge(bytes(1000), bytes(999)), "better");
});

function report(metrics: Metric[], changes: Partial<Report> = {}): Report {
  return {
    name: "sampling",
    date: "2026-11-25T17:30:05.123Z",
    versions: { node: "20.0.0", commit: "abc" },
    hardware: { cpu: "some", cores: 2, memory_gb: 8, platform: "linux x64" },
    settings: { n_layer: 4 },
    facts: {},
    metrics,
    ...changes,
  };
}

test("the comparison shows every ratio and names what got worse", () => {
  const bytes = (value: number) => exact("bytes", "bytes", "lower", value);
  const lines = compare(
    report([ms(10, 10, 10), speed(50, 50, 50), bytes(7), exact("growth", "KB", "lower", 0)]),
    report([
      ms(20, 20, 20),
      speed(50, 50, 50),
      bytes(8),
      exact("growth", "KB", "lower", 0),
      exact("new", "", "lower", 1),
    ]),
  );
  const lineOf = (name: string) => lines.find((line) => line.trim().split(/\s+/)[0] === name);
  assert.match(lineOf("ms")!, /10 +20 +ms +2\.000 +SLOWER$/);
  assert.match(lineOf("speed")!, /50 +50 +tokens\/s +1\.000$/);
  assert.match(lineOf("bytes")!, /7 +8 +bytes +1\.143 +LARGER$/);
  assert.match(lineOf("growth")!, /0 +0 +KB +-$/, "no ratio to nothing");
  assert.match(lineOf("new")!, /- +1 +-$/);
  assert.equal(lines.at(-1), "worse by more than its noise: ms, bytes");
});

test("a comparison of unlike things says so", () => {
  const old = report([ms(10, 10, 10)]);
  assert.equal(compare(old, old).at(-1), "nothing got worse by more than its noise");
  const now = report([ms(10, 10, 10)], {
    settings: { n_layer: 8 },
    hardware: { ...old.hardware, cores: 4 },
    versions: { node: "22.0.0", commit: "abc" },
  });
  const text = compare(old, now).join("\n");
  assert.match(text, /^other settings: n_layer 4 -> 8$/m);
  assert.match(text, /^other hardware: cores 2 -> 4$/m);
  assert.match(text, /^other versions: node "20\.0\.0" -> "22\.0\.0"$/m);
});
