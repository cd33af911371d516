// From where training begins: what a finished or stopped training may resume from, and what it must not.

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { InUseError, lock } from "../../../lib/common/lock.ts";
import { saveCheckpoint } from "../../../lib/training/checkpoint.ts";
import { beginningOf, flagsFor, untilFree } from "../../../tools/pipeline/beginning.ts";
import { type Inputs, markOf, type StageRecord } from "../../../tools/pipeline/state.ts";
import { temporaryFolder } from "../../scripts.ts";

const DATA = { train: { bytes: 1, sha256: "a" } };
const SETTINGS = {
  max_iters: 200,
  lr_decay_iters: 200,
  eval_interval: 25,
  n_layer: 2,
  learning_rate: 1e-3,
  threads: 0,
};

function inputs(changes: Record<string, unknown> = {}, files: Inputs["files"] = DATA): Inputs {
  return { settings: { ...SETTINGS, ...changes }, files };
}

function record(state: StageRecord["state"], changes: Partial<StageRecord> = {}): StageRecord {
  const times = { started: "2026-01-01T00:00:00.000Z", ended: null, seconds: null };
  return { state, why: "", ...times, commands: [], inputs: inputs(), outputs: {}, error: null, ...changes };
}

/** A folder with a checkpoint. */
async function folder(
  iter_num: number,
  config: Record<string, unknown> = SETTINGS,
  path = temporaryFolder(),
): Promise<string> {
  const rest = { best_val_loss: null, optimizer_steps: iter_num, rng: { seed: 1, iteration: iter_num } };
  await saveCheckpoint(path, { model_args: {}, config, iter_num, ...rest, tokenizer: null }, []);
  return path;
}

test("a finished training that is to be longer goes on, and so does a stopped, killed or failed one", async () => {
  const outDir = await folder(200);
  for (const now of [
    inputs({ max_iters: 400, lr_decay_iters: 400, eval_interval: 50 }),
    inputs({ threads: 2, tensorboard: true }),
    inputs(),
  ]) {
    for (const state of ["done", "running", "stopped", "failed"] as const) {
      assert.deepEqual(await beginningOf(outDir, record(state), now, false), { from: 200 });
    }
  }
});

test("what decides what is learned makes another training: the checkpoint that is there is marked, and stays", async () => {
  const outDir = await folder(200);
  const mark = await markOf(join(outDir, "ckpt.json"));
  for (const [now, why, again = false] of [
    [inputs({ learning_rate: 1e-4, max_iters: 400 }), /^learning_rate was 0.001 and is 0.0001$/],
    [inputs({ n_layer: 3 }), /^n_layer was 2 and is 3$/],
    [inputs({}, { train: { bytes: 1, sha256: "b" } }), /^train has changed$/],
    [inputs({ max_iters: 100 }), /^it has 200 steps, and max_iters is 100$/],
    [inputs(), /asked for/, true],
  ] as const) {
    const beginning = await beginningOf(outDir, record("done"), now, again);
    assert.deepEqual([beginning.from, beginning.replaces], [undefined, mark]);
    assert.match(beginning.why!, why);
  }
});

test("killed before its first own checkpoint a training doesn't go on from the one before it", async () => {
  const outDir = await folder(200);
  const replaces = (await markOf(join(outDir, "ckpt.json")))!;
  const now = inputs({ n_layer: 3 });
  const before = record("running", { inputs: now, replaces });
  const again = await beginningOf(outDir, before, now, false);
  assert.deepEqual([again.from, again.replaces], [undefined, replaces]);
  await folder(25, {}, outDir);
  assert.deepEqual(await beginningOf(outDir, before, now, false), { from: 25 });
});

test("without a checkpoint it just begins", async () => {
  assert.deepEqual(await beginningOf(temporaryFolder(), record("running"), inputs(), false), {});
});

test("what differs from the checkpoint's settings is given to a resumption, though it be a default", async () => {
  const outDir = await folder(200, { ...SETTINGS, threads: 2, n_layer: 2 });
  const defaults = { ...SETTINGS, n_layer: 12, max_iters: 600_000 };
  const settings = { ...SETTINGS, max_iters: 400 };
  assert.deepEqual(flagsFor(settings, defaults, outDir, {}), ["--max_iters=400", "--n_layer=2"]);
  assert.deepEqual(flagsFor(settings, defaults, outDir, { from: 200 }), [
    ...["--max_iters=400", "--n_layer=2", "--threads=0"],
    "--init_from=resume",
  ]);
});

test("what a killed pipeline's training still saves is waited for", async () => {
  const outDir = temporaryFolder();
  const held = lock(outDir, "training");
  const said: string[] = [];
  const asked = () => {
    if (said.length > 0) held();
  };
  await untilFree(outDir, (line) => said.push(line), asked);
  assert.equal(said.length, 1);

  const again = lock(outDir, "training");
  await assert.rejects(
    untilFree(
      outDir,
      () => {},
      () => {},
      0,
    ),
    InUseError,
  );
  again();
});
