// train.ts with --grad_checkpoint: the same run as without, whole or resumed, to the bit.

import test from "node:test";

import { tinyRuns } from "./tiny_runs.ts";

/** With dropout, accumulation and micro-batches. */
const { train, assertSameState } = tinyRuns({
  n_layer: 3,
  micro_batch_size: 2,
  warmup_iters: 5,
  lr_decay_iters: 10,
  max_iters: 10,
  eval_interval: 5,
});

test("a run that recomputes is the run that doesn't, also resumed by one and by the other: every bit", async () => {
  await train("plain");
  await train("again", { grad_checkpoint: true });
  await train("parts", { grad_checkpoint: true, max_iters: 5 });
  await train("parts", { grad_checkpoint: true, init_from: "resume" });
  await train("mixed", { max_iters: 5 });
  await train("mixed", { grad_checkpoint: true, init_from: "resume" });
  for (const name of ["again", "parts", "mixed"]) await assertSameState(name, "plain");
});
