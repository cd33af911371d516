// The search's decisions, on made-up machines whose clock only their own work moves.

import assert from "node:assert/strict";
import { test } from "node:test";

import { climb, pickFastest, type SearchOptions, search } from "../../../tools/pipeline/search.ts";
import { type Found, SEARCHED, type Searched } from "../../../tools/pipeline/settings.ts";

test("a candidate wins only where it is faster in every round", () => {
  assert.equal(
    pickFastest([
      [100, 100, 100],
      [110, 112, 109],
      [105, 104, 106],
    ]),
    1,
  );
  assert.equal(
    pickFastest([
      [100, 100, 100],
      [150, 99, 150],
    ]),
    0,
    "slower in one round",
  );
  assert.equal(
    pickFastest([
      [100, 100, 100],
      [102, 102, 102],
    ]),
    0,
    "too little",
  );
  assert.equal(pickFastest([[100], [200]]), 0, "one round decides nothing");
});

test("the learning rate climbs while that lowers the loss, or else descends", async () => {
  const visited: number[] = [];
  const bowl = (best: number) => async (rate: number) => {
    visited.push(rate);
    return 2 + 0.1 * Math.log2(rate / best) ** 2;
  };
  for (const [best, path] of [
    [4e-3, [2e-3, 4e-3, 8e-3]],
    [5e-4, [2e-3, 5e-4, 2.5e-4]],
    [1e-3, [2e-3, 5e-4]],
  ] as const) {
    visited.length = 0;
    const loss = await bowl(best)(1e-3);
    visited.length = 0;
    const [rate] = await climb(1e-3, loss, bowl(best), 3);
    assert.equal(rate, best);
    assert.deepEqual(visited, path);
  }
});

/** Two cores; 24 sequences at once are best; the loss is lowest at a rate of 0.004. */
function machine(seconds: number, searched: readonly Searched[] = SEARCHED) {
  let clock = 0;
  const runs: string[] = [];
  const lines: string[] = [];
  const start = { threads: 2, batch_size: 12, micro_batch_size: 12, learning_rate: 1e-3 };
  const time = ({ threads = 1, batch_size = 1 }: Found) => (20 * batch_size * (threads === 2 ? 1 : 1.7)) / 12; // ms
  const options: SearchOptions = {
    searched: new Set(searched),
    start,
    tokens: 64,
    eval_iters: 20,
    most_steps: 1000,
    seconds,
    async stepTime(candidate, steps) {
      assert.equal(candidate.batch_size % candidate.micro_batch_size, 0);
      runs.push("speed");
      clock += 1200 + time(candidate) * (steps + 3);
      return time(candidate);
    },
    async train(candidate, steps) {
      assert.equal(candidate.batch_size % candidate.micro_batch_size, 0);
      runs.push(`loss ${candidate.batch_size} ${candidate.learning_rate} ${steps}`);
      clock += 1500 + time(candidate) * steps;
      return 2 + 0.1 * Math.log2(candidate.learning_rate / 4e-3) ** 2 + candidate.batch_size / 1000;
    },
    say: (line) => lines.push(line),
    now: () => clock,
  };
  return { options, runs, lines, elapsed: () => clock / 1000 };
}

test("it finds what is best and keeps to its time", async () => {
  const { options, runs, elapsed } = machine(90);
  const { found, tried, seconds } = await search(options);
  assert.equal(found.learning_rate, 4e-3);
  assert.equal(found.threads, undefined, "two threads are the default and the fastest");
  assert.ok(elapsed() <= 90, `${elapsed()} s of 90`);
  assert.ok(Math.abs(seconds - elapsed()) < 0.1);
  const steps = runs.filter((run) => run.startsWith("loss 12 ")).map((run) => run.split(" ")[3]);
  assert.ok(steps.length >= 3);
  assert.equal(new Set(steps).size, 1, "learning rates are compared after the same number of steps");
  assert.ok(tried.some(({ key, tokens_per_s }) => key === "threads" && tokens_per_s!.length >= 2));
});

test("what is not to be searched is not touched", async () => {
  const { options, runs } = machine(60, ["threads"]);
  const { found } = await search(options);
  assert.deepEqual(found, {});
  assert.ok(runs.every((run) => run === "speed"));
  const nothing = machine(60, []);
  assert.deepEqual((await search(nothing.options)).found, {});
  assert.deepEqual(nothing.runs, [], "nothing to search, nothing measured");
});

test("without the time for a fair comparison the defaults stay, and it says so", async () => {
  const { options, runs, lines } = machine(2);
  assert.deepEqual((await search(options)).found, {});
  assert.deepEqual(runs, ["speed"], "the first measurement alone, to know that");
  assert.equal(lines.filter((line) => /no time/.test(line)).length, SEARCHED.length, lines.join("\n"));
});

test("a rate at which the loss is no number is not taken", async () => {
  const { options } = machine(90, ["learning_rate"]);
  const { train } = options;
  options.train = (candidate, steps) =>
    candidate.learning_rate > 1e-3 ? Promise.resolve(Number.NaN) : train(candidate, steps);
  const { found, tried } = await search(options);
  assert.equal(found.learning_rate, undefined);
  assert.ok(tried.some(({ val_loss }) => val_loss === null));
});
