// Who trains with --compile=false is told at once, and after the first step with the time that this very run will take.

import assert from "node:assert/strict";
import test from "node:test";

import type { Run } from "../../../lib/monitor/callback.ts";
import { uncompiled } from "../../../lib/monitor/uncompiled.ts";
import { assertSucceeded, flags, oneProcess, temporaryFolder, tinyDataset } from "../../scripts.ts";

const run = {} as Run;
const settings = { compile: false, max_iters: 2000, eval_interval: 250 };

function told(startIter: number, stepMs: number, evaluationMs: number | undefined, config = settings): string[] {
  const lines: string[] = [];
  let clock = 5000;
  const { onTrainStart, onEvaluate, onStep } = uncompiled(
    (line) => lines.push(line),
    config,
    () => clock,
  );
  onTrainStart!(run);
  if (evaluationMs !== undefined) {
    clock += evaluationMs;
    onEvaluate!({ iter: startIter, metrics: {}, best: true, texts: new Map() });
  }
  for (let iter = startIter; iter < startIter + 3; iter++) {
    onStep!({ iter, metrics: { step_ms: stepMs * (1 + iter - startIter) }, gradScale: 1, histograms: new Map() });
  }
  return lines;
}

test("the time is that of this run's first evaluation and first step, told once", () => {
  const [before, after, ...more] = told(0, 4500, 120_000);
  assert.match(before!, /^compile is false: every operation runs eagerly, .*leave --compile=false out/);
  assert.equal(
    after,
    "a step took 4.5 s uncompiled, an evaluation 2 min: the other 1,999 steps and 8 evaluations will take some " +
      "2 h 45 min; without --compile=false they are compiled and far faster", // 8996 s and 960 s
  );
  assert.deepEqual(more, []);
});

test("a run that goes on between two evaluations, one that ends between two, one of one step", () => {
  assert.match(
    told(1900, 60_000, undefined)[1]!,
    /^a step took 1 min uncompiled: the other 99 steps will take some 1 h 39/,
  );
  assert.match(
    told(1900, 1000, 3000, { ...settings, max_iters: 1990 })[1]!,
    /: the other 89 steps and 1 evaluation will take some 1 min 32 s;/,
  );
  assert.equal(told(0, 1000, 3000, { ...settings, max_iters: 1 }).length, 1);
});

test("train.ts says so with nanoGPT's spelling of the flag, and nothing where it compiles", async () => {
  const cwd = temporaryFolder();
  const runHere = oneProcess();
  const small = flags({
    ...{ dataset: tinyDataset(cwd), n_layer: 1, n_head: 1, n_embd: 8, block_size: 4, batch_size: 1, threads: 1 },
    ...{ gradient_accumulation_steps: 1, eval_iters: 1, max_iters: 2 },
  });
  const slow = assertSucceeded(await runHere("train.ts", [...small, "--compile=False"], cwd), "train.ts");
  assert.match(
    slow,
    /^compile is false: [^\n]*\nstep 0: [^\n]*\niter 0: [^\n]*\na step took [\d.]+ s uncompiled, [^\n]*: the other 1 step and 1 evaluation /m,
  );
  const fast = assertSucceeded(await runHere("train.ts", small, cwd), "train.ts");
  assert.doesNotMatch(fast, /compile is false|uncompiled/);
});
