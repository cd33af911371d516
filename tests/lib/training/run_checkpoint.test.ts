// lib/training/run_checkpoint.ts: which states of a run are kept, where, and which one is gone on from. No model: a state of one number.

import assert from "node:assert/strict";
import { existsSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { Clock } from "../../../lib/common/clock.ts";
import { lock } from "../../../lib/common/lock.ts";
import { Parameter } from "../../../lib/nn/parameter.ts";
import { loadCheckpoint, readMetadata } from "../../../lib/training/checkpoint.ts";
import { RunCheckpoint, reachedBy, resumeFolder, settingsOfRun } from "../../../lib/training/run_checkpoint.ts";
import { TrainingState } from "../../../lib/training/training_state.ts";
import { temporaryFolder } from "../../scripts.ts";
import { userError } from "../text/support.ts";

const FOLDER = temporaryFolder();
let count = 0;
const newFolder = () => join(FOLDER, `run${count++}`);

/** A run whose weight is the step that it is at. */
function aRun(folder: string, { always = false, resumed = false, held = false } = {}) {
  const weight = new Parameter("weight", [1], { constant: 0 });
  const state = new TrainingState([weight], { steps: 0, tensors: () => [] }, undefined, undefined);
  const lines: string[] = [];
  const saves: [iter: number, path: string][] = [];
  const checkpoint = new RunCheckpoint({
    ...{ folder, always, state, held: held ? lock(folder, "testing") : undefined, seed: 1, clock: new Clock() },
    resumed: resumed ? readMetadata(folder) : undefined,
    log: (line) => lines.push(line),
    describe: () => ({
      model_args: {},
      config: { out_dir: "elsewhere", init_from: "scratch", eval_only: false, n_layer: 3 },
      tokenizer: null,
    }),
    onSave: async ({ iter, path }) => void saves.push([iter, path]),
  });
  const at = (iter: number) => {
    weight.data[0] = iter;
    checkpoint.sound = true;
    return iter;
  };
  return {
    checkpoint,
    lines,
    weight,
    /** @returns whether it was kept */
    async offer(iter: number, val: number, isEnd = false): Promise<boolean> {
      const before = saves.length;
      const losses = { train: 1, val };
      at(iter);
      checkpoint.evaluated(losses);
      await checkpoint.offer({ iter, losses }, isEnd);
      return saves.length > before;
    },
    /** @returns the path of what was kept */
    async cutShort(iter: number): Promise<string | undefined> {
      const before = saves.length;
      await checkpoint.cutShort(at(iter));
      return saves[before]?.[1];
    },
  };
}

/** The step of the weights in a folder. */
async function stepIn(folder: string): Promise<number> {
  const { metadata, tensors } = await loadCheckpoint(folder);
  const data = new Float32Array(1);
  tensors.read("weight", [1], data);
  tensors.close();
  assert.equal(metadata.iter_num, data[0]);
  return metadata.iter_num;
}

test("every evaluated state after the first step is kept, or only those that are better than the kept one", async () => {
  const all = aRun(newFolder(), { always: true });
  assert.deepEqual([await all.offer(0, 3), await all.offer(10, 4), await all.offer(20, 5)], [false, true, true]);
  const best = aRun(newFolder());
  const kept = [
    await best.offer(0, 3),
    await best.offer(10, 4),
    await best.offer(20, 5),
    await best.offer(30, 4),
    await best.offer(40, 3.9),
  ];
  assert.deepEqual(kept, [false, true, false, false, true]); // better than any before is no condition
  assert.equal(await stepIn(best.checkpoint.folder), 40);
  assert.deepEqual(best.checkpoint.saved, { iter: 40, losses: { train: 1, val: 3.9 } });
});

test("a run never ends with nothing: the last state is kept where there is no other, even of step 0", async () => {
  const { offer, checkpoint } = aRun(newFolder());
  assert.ok(await offer(0, 3, true));
  assert.equal(await stepIn(checkpoint.folder), 0);
});

test("weights whose loss is NaN are never kept; a run that ends with them has failed", async () => {
  const { offer, checkpoint } = aRun(newFolder(), { always: true });
  assert.ok(await offer(10, 3));
  assert.ok(!(await offer(20, Number.NaN)));
  await assert.rejects(
    offer(30, Number.NaN, true),
    userError(/validation loss is NaN at step 30; lower --learning_rate/),
  );
  assert.equal(await stepIn(checkpoint.folder), 10);
});

test("a run that is cut short leaves its last state, beside the best one where only that is asked for", async () => {
  const all = aRun(newFolder(), { always: true });
  await all.offer(10, 3);
  await all.cutShort(15);
  assert.equal(await stepIn(all.checkpoint.folder), 15);
  assert.equal(resumeFolder(all.checkpoint.folder), all.checkpoint.folder);

  const folder = newFolder();
  const best = aRun(folder);
  await best.cutShort(5); // never with nothing
  assert.equal(await stepIn(folder), 5);
  await best.offer(10, 3);
  await best.offer(20, 4);
  assert.equal(await best.cutShort(25), join(folder, "last", "ckpt.json"));
  assert.equal(await best.cutShort(25), undefined); // it is there
  assert.deepEqual([await stepIn(folder), await stepIn(join(folder, "last"))], [10, 25]);
  assert.equal(resumeFolder(folder), join(folder, "last"));

  // it goes on, finds nothing better, and is cut short again; then it finds something better, and needs the last no more
  const resumed = aRun(folder, { resumed: true });
  assert.deepEqual([resumed.checkpoint.saved?.iter, resumed.checkpoint.newest?.iter], [10, 25]);
  assert.ok(!(await resumed.offer(30, 3.5)));
  await resumed.cutShort(35);
  assert.equal(await stepIn(join(folder, "last")), 35);
  assert.ok(await resumed.offer(40, 2));
  assert.ok(!existsSync(join(folder, "last")));
});

test("a last state that isn't this run's is not gone on from", async () => {
  const folder = newFolder();
  const first = aRun(folder);
  await first.offer(10, 3);
  await first.cutShort(15);
  renameSync(join(folder, "last"), join(folder, "kept"));
  await aRun(folder).offer(5, 4); // another run; had it been killed just after that, the former one's last state would be there
  renameSync(join(folder, "kept"), join(folder, "last"));
  assert.equal(resumeFolder(folder), folder);
  rmSync(join(folder, "ckpt.json"));
  assert.equal(resumeFolder(folder), join(folder, "last"));
});

test("the end: no last state beside the best, which says how far the run went", async () => {
  const folder = newFolder();
  const { offer, cutShort, checkpoint } = aRun(folder);
  await offer(10, 3);
  await cutShort(15);
  await offer(20, 4, true);
  await checkpoint.end(20);
  assert.ok(!existsSync(join(folder, "last")));
  assert.equal(await stepIn(folder), 10);
  assert.equal(reachedBy(readMetadata(folder)), 20);
});

test("a folder that is moved meanwhile is made again, and gets the next state whether it is better or not", async () => {
  const folder = newFolder();
  const { offer, lines, checkpoint } = aRun(folder, { held: true });
  await offer(10, 3);
  renameSync(folder, `${folder}-moved`);
  checkpoint.check();
  checkpoint.check();
  assert.deepEqual(lines.slice(1), [
    `${folder} was moved, removed or replaced meanwhile: the run continues in a new one`,
  ]);
  assert.ok(await offer(20, 4));
  assert.deepEqual([await stepIn(folder), await stepIn(`${folder}-moved`)], [20, 10]);
});

test("going back takes the weights of the folder's checkpoint", async () => {
  const { offer, checkpoint, weight } = aRun(newFolder());
  await offer(10, 3);
  weight.data[0] = 17;
  assert.equal(await checkpoint.rollBack(), 10);
  assert.equal(weight.data[0], 10);
});

test("going back leaves no last state that a resumed run would go on from", async () => {
  const folder = newFolder();
  const first = aRun(folder);
  await first.offer(10, 3);
  await first.cutShort(15);
  const resumed = aRun(folder, { resumed: true });
  assert.equal(resumed.checkpoint.newest?.iter, 15);
  await resumed.checkpoint.rollBack();
  assert.equal(resumed.checkpoint.newest?.iter, 10);
  assert.equal(resumeFolder(folder), folder);
});

test("a resumed run's settings are its own, but for the folder and what is done with it", async () => {
  const folder = newFolder();
  await aRun(folder).offer(10, 3);
  const found = settingsOfRun({ init_from: "resume", out_dir: folder });
  assert.deepEqual(found, { source: join(folder, "ckpt.json"), settings: { n_layer: 3 } });
  assert.equal(settingsOfRun({ init_from: "scratch", out_dir: folder }), undefined);
  writeFileSync(join(folder, "ckpt.json"), "{}");
  assert.throws(() => settingsOfRun({ init_from: "resume", out_dir: folder }), userError(/is not a checkpoint/));
});
