// lib/monitor/watched_run.ts: what a run's callbacks are given, and what becomes of their wishes.

import assert from "node:assert/strict";
import { test } from "node:test";

import { watchedRun } from "../../../lib/monitor/watched_run.ts";
import { createObjective } from "../../../lib/training/objective.ts";
import { fakeRun } from "./support.ts";

test("the facts of a run; the first wish counts, and a run without a checkpoint can't go back", async () => {
  const { run: fake } = await fakeRun();
  const checkpoint: { saved: { iter: number } | undefined } = { saved: undefined };
  const { vocab_size } = fake.model.config;
  const objective = createObjective("decoder", { B: 3, T: 8, vocab_size, mask_fraction: 0, pairs: undefined });
  const config = { out_dir: "runs/one", dataset: "letters" };
  const run = watchedRun({ ...fake, config, objective, micros: 4, resumed: { iter_num: 7 }, checkpoint });
  assert.deepEqual([run.name, run.outDir, run.startIter, run.resumed], ["one", "runs/one", 7, true]);
  assert.deepEqual([run.facts.tokens_per_iter, run.facts.micro_batch_size], [4 * 3 * 8, 3]);
  run.stop("good enough");
  run.stop("too long");
  assert.equal(run.rollBack("a spike"), false);
  assert.deepEqual([run.wish.stop, run.wish.rollBack], ["good enough", undefined]);
  checkpoint.saved = { iter: 5 };
  assert.equal(run.rollBack("another spike"), true);
  assert.equal(run.wish.rollBack, "another spike");
});
