// The learning rate's curves, at steps whose value is known.

import assert from "node:assert/strict";
import test from "node:test";

import { SCHEDULES } from "../../../lib/training/choices.ts";
import { learningRateAt, type Schedule } from "../../../lib/training/schedule.ts";
import { assertClose } from "../../support.ts";

const OPTIONS: Schedule = { learning_rate: 1, min_lr: 0.1, warmup_iters: 4, lr_decay_iters: 104, decay_lr: true };
const rates = (changes: Partial<Schedule>, iters: number[]) =>
  iters.map((iter) => learningRateAt(iter, { ...OPTIONS, ...changes }));

test("every schedule warms up in a line that doesn't begin at 0, to learning_rate", () => {
  for (const schedule of SCHEDULES) {
    assertClose(rates({ schedule }, [0, 1, 2, 3, 4]), [0.2, 0.4, 0.6, 0.8, 1], { atol: 1e-15, label: schedule });
  }
});

test("cosine, the default: half of the way in the middle, min_lr from lr_decay_iters on", () => {
  const quarter = 0.1 + 0.9 * 0.5 * (1 + Math.SQRT1_2);
  for (const changes of [{}, { schedule: "cosine" }] as const) {
    const expected = [quarter, 0.55, 1.1 - quarter, 0.1, 0.1];
    assertClose(rates(changes, [29, 54, 79, 104, 1000]), expected, { atol: 1e-15, label: "cosine" });
  }
});

test("linear: in proportion", () => {
  assertClose(rates({ schedule: "linear" }, [29, 54, 104, 105]), [0.775, 0.55, 0.1, 0.1], {
    atol: 1e-15,
    label: "linear",
  });
});

test("wsd: stable until the last part of lr_decay_iters, then by 1 - sqrt", () => {
  const wsd = { schedule: "wsd", cooldown_fraction: 0.25 } as const; // the last 26 of 104 steps
  const quarter = 0.1 + 0.9 * (1 - Math.sqrt(6.5 / 26));
  assertClose(rates(wsd, [5, 50, 78]), [1, 1, 1], { atol: 1e-15, label: "stable" });
  assertClose(rates(wsd, [84.5, 104, 105]), [quarter, 0.1, 0.1], { atol: 1e-14, label: "decay" });
  assert.equal(quarter, 0.55);
  for (let iter = 79; iter <= 104; iter++) {
    assert.ok(learningRateAt(iter, { ...OPTIONS, ...wsd }) < learningRateAt(iter - 1, { ...OPTIONS, ...wsd }));
  }
  assertClose(rates({ schedule: "wsd", cooldown_fraction: 0 }, [104, 105]), [1, 0.1], {
    atol: 0,
    label: "no cooldown",
  });
});

test("constant: learning_rate after the warmup; with decay_lr false without one, as in nanoGPT", () => {
  assert.deepEqual(rates({ schedule: "constant" }, [3, 4, 104, 1e6]), [0.8, 1, 1, 1]);
  for (const schedule of ["cosine", "constant"] as const) {
    assert.deepEqual(rates({ schedule, decay_lr: false }, [0, 3, 50, 1e6]), [1, 1, 1, 1]);
  }
});
