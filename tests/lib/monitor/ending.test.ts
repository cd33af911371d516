// lib/monitor/ending.ts: what a run's last lines say, for each way in which it may end.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { EndEvent, Run } from "../../../lib/monitor/callback.ts";
import { ending } from "../../../lib/monitor/ending.ts";
import type { Moment } from "../../../lib/training/run_checkpoint.ts";

interface Ended extends EndEvent {
  saved?: Moment;
  newest?: Moment;
  losses?: number[]; // of evaluations at step 0, 10, 20, ...
  architecture?: string;
  folder?: string;
}

/** The lines of a run that ended so. */
async function linesOf({ saved, newest = saved, losses = [], folder = "out-a", architecture, ...event }: Ended) {
  const lines: string[] = [];
  const callback = ending({ folder, saved, newest });
  const model = { config: { architecture } };
  const log = (line: string) => lines.push(line);
  callback.onTrainStart!({ model, config: { max_iters: 20, eval_only: false }, log } as unknown as Run);
  for (const [i, loss] of losses.entries()) {
    callback.onEvaluate!({ iter: 10 * i, metrics: { "val/loss": loss }, best: false, texts: new Map() });
  }
  await callback.onTrainEnd!(event);
  return lines;
}

const SAVED: Moment = { iter: 20, losses: { train: 1.5, val: 2 } };
const SAMPLE = "  sample from it: npx tsx sample.ts --out_dir=out-a";
const PLOT = "  plot its losses: npx tsx tools/plot.ts --out_dir=out-a";
const GO_ON = "npx tsx train.ts --init_from=resume --out_dir=out-a";

test("a finished run: what the folder holds, and how to sample, plot and train longer", async () => {
  assert.deepEqual(await linesOf({ iter: 20, reason: "finished", saved: SAVED, losses: [3, 2.5, 2] }), [
    "out-a holds the checkpoint of step 20 (train loss 1.5000, val loss 2.0000)",
    SAMPLE,
    PLOT,
    `  train it longer: ${GO_ON} --max_iters=40`,
  ]);
  const averaged = { iter: 10, losses: { train: 1.5, val: 2, ema: 1.9 } };
  const lines = await linesOf({ iter: 20, reason: "finished", saved: averaged, architecture: "encoder" });
  assert.equal(lines[0], "out-a holds the checkpoint of step 10 (train loss 1.5000, val loss 2.0000, averaged 1.9000)");
  assert.ok(!lines.includes(SAMPLE), "an encoder writes no text");
});

test("a folder's name is quoted where a shell or a list needs it", async () => {
  const lines = await linesOf({ iter: 20, reason: "finished", saved: SAVED, folder: "my runs,a" });
  assert.equal(lines[1], "  sample from it: npx tsx sample.ts '--out_dir=my runs,a'");
  assert.equal(lines[2], "  plot its losses: npx tsx tools/plot.ts '--out_dir=my runs\\,a'");
});

test("a run that a callback stopped says why; one that was interrupted ends with how to go on", async () => {
  const stopped = await linesOf({ iter: 20, reason: "stopped", why: "good enough", saved: SAVED });
  assert.equal(stopped[0], "stopped before step 20: good enough");
  assert.equal(stopped.at(-1), `  train it longer: ${GO_ON}`);
  const interrupted = { iter: 15, reason: "interrupted" } as const;
  assert.deepEqual(await linesOf({ ...interrupted, saved: { iter: 15 } }), [
    "out-a holds the checkpoint of step 15 (not evaluated)",
    `stopped before step 15; continue with: ${GO_ON}`,
  ]);
  assert.deepEqual(await linesOf({ ...interrupted, saved: { ...SAVED, iter: 10 }, newest: { iter: 15 } }), [
    "out-a holds the checkpoint of step 10 (train loss 1.5000, val loss 2.0000), the best, and the run's last state, of step 15",
    `stopped before step 15; continue with: ${GO_ON}`,
  ]);
  assert.deepEqual(await linesOf({ ...interrupted, iter: 0 }), [
    "out-a holds no checkpoint of this run",
    "stopped before step 0; there is nothing to save yet",
  ]);
});

test("a failed run says what is left, and how to go on from it", async () => {
  const failed = { iter: 25, reason: "failed", why: "no space left" } as const;
  assert.deepEqual(await linesOf({ ...failed, saved: SAVED }), [
    "out-a holds the checkpoint of step 20 (train loss 1.5000, val loss 2.0000)",
    `continue with: ${GO_ON}`,
  ]);
  assert.deepEqual(await linesOf(failed), ["out-a holds no checkpoint of this run"]);
});

test("a validation loss that never fell, or is 0, is told; one that fell, or of half a run, is not", async () => {
  const end = { iter: 20, reason: "finished", saved: SAVED } as const;
  const [never] = await linesOf({ ...end, losses: [3, 3.5, 3.25] });
  assert.match(
    never!,
    /^the validation loss was never below that of step 0 \(3\.0000 at step 0, at best 3\.2500 at step 20\): /,
  );
  const [zero] = await linesOf({ ...end, losses: [0, 0, 0] });
  assert.match(zero!, /^the validation loss is 0: /);
  for (const losses of [[3, 2.9, 3.5], [3], []]) {
    assert.match((await linesOf({ ...end, losses }))[0]!, /^out-a holds/);
  }
});
