// The time left, on a clock that the test moves.

import assert from "node:assert/strict";
import test from "node:test";

import { TimeLeft } from "../../../lib/common/time_left.ts";

const MINUTE = 60_000;

test("nothing is said before something is done, whatever is told meanwhile", () => {
  const time = new TimeLeft(100, 0, 0);
  assert.equal(time.text, undefined);
  for (let second = 1; second < 300; second++) time.update(0, 1000 * second); // a first evaluation
  assert.equal(time.text, undefined);
  assert.equal(new TimeLeft(0, 0, 0).text, undefined);
});

test("what came before the first unit doesn't count once there are two", () => {
  const time = new TimeLeft(61, 0, 0);
  time.update(0, 30 * MINUTE);
  time.update(1, 31 * MINUTE);
  time.update(2, 32 * MINUTE);
  assert.equal(time.text, "59 min left");
  time.update(31, 61 * MINUTE);
  assert.equal(time.text, "30 min left");
  time.update(61, 91 * MINUTE);
  assert.equal(time.text, "0 s left");
});

test("an evaluation of more than a hundred updates loses nothing, and counts for those to come", () => {
  const time = new TimeLeft(201, 0, 0);
  for (let i = 1; i <= 101; i++) time.update(i, 1000 * i);
  assert.equal(time.text, "1 min 40 s left");
  for (let i = 0; i < 500; i++) time.update(101, 101_000 + 100 * i);
  assert.equal(time.text, "1 min 40 s left");
  time.update(102, 202_000); // it took 100 s
  time.update(103, 203_000);
  assert.equal(time.text, "3 min 14 s left"); // 98 steps at 202 s for 102
});

test("a resumed run is judged by its own steps, one that is rolled back by those after it", () => {
  const resumed = new TimeLeft(1000, 900, 0);
  resumed.update(910, 10 * MINUTE);
  assert.equal(resumed.text, "1 h 30 min left");
  const back = new TimeLeft(1000, 0, 0);
  for (let i = 1; i <= 100; i++) back.update(i, 1000 * i);
  back.update(50, 101_000);
  back.update(51, 103_000);
  assert.equal(back.text, "31 min 38 s left"); // 949 at 2 s
});
