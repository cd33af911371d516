// kill -9 at a few moments of a run that does little but save. Whenever it comes, the folder holds a whole checkpoint, at least
// as new as the last that was announced, and in the end the weights are those of a run that nobody killed.
//
//   KILLS=20 npm test -- tests/kill.test.ts   # at more of them

import assert from "node:assert/strict";
import { existsSync, readdirSync, watch } from "node:fs";
import { test } from "node:test";
import { keyOf, uniform } from "../lib/common/rng.ts";
import { readHistory } from "../lib/monitor/metrics_file.ts";
import { loadCheckpoint } from "../lib/training/checkpoint.ts";
import { launch } from "./scripts.ts";
import { tinyRuns } from "./tiny_runs.ts";

const KILLS = Number(process.env.KILLS ?? 4);

// 0.4M weights: a step takes some 5 ms and a checkpoint of 5 MB some 30, so most moments are within a save
const { outDir, args, train, stateOf } = tinyRuns({
  n_embd: 128,
  gradient_accumulation_steps: 1,
  dropout: 0.1,
  learning_rate: 1e-3,
  decay_lr: false,
  eval_iters: 1,
  threads: 2,
});

/** What is left of a checkpoint whose parts are there; weights and ckpt.json with their temporary names apart. */
async function inspect(out: string): Promise<{ iterNum: number; weights: number; temporary: number }> {
  const directory = outDir(out);
  const names = existsSync(directory) ? readdirSync(directory) : [];
  const weights = names.filter((name) => name.startsWith("weights-")).length;
  const temporary = names.filter((name) => name.startsWith("ckpt.json.")).length;
  if (!names.includes("ckpt.json")) return { iterNum: 0, weights, temporary };
  const { metadata, tensors } = await loadCheckpoint(directory); // compares the checksum
  tensors.close();
  return { iterNum: metadata.iter_num, weights, temporary };
}

/** Wait until a file is begun in a folder. */
function temporaryIn(folder: string): Promise<void> {
  return new Promise((resolve) => {
    const watcher = watch(folder, (_, name) => {
      if (!name?.endsWith(".tmp")) return;
      watcher.close();
      resolve();
    });
  });
}

test(`${KILLS} kills leave a whole checkpoint each time, and none of them changes the result`, async () => {
  let previous = 0; // the checkpoint's step after the last kill
  const found = { strays: 0, progress: 0 };
  for (let kill = 0; kill < KILLS; kill++) {
    const resume = previous > 0 || (await inspect("killed")).iterNum > 0;
    const { child, ended, until } = launch(
      "train.ts",
      args("killed", { max_iters: 1e6, eval_interval: 1 + (kill % 2), init_from: resume ? "resume" : "scratch" }),
    );
    // 1) of four kills one falls anywhere into the start, one soon after the begin of a save that isn't the first, and two
    // when such a save writes a file
    const random = uniform(keyOf("kill"), kill);
    if (kill % 4 !== 3) await until(new RegExp(`(^saving [^]*?){${3 + Math.floor(4 * random)}}`, "m"));
    if (kill % 2 === 0) await temporaryIn(outDir("killed"));
    else await new Promise((resolve) => setTimeout(resolve, random * (kill % 4 === 3 ? 1500 : 100)));
    child.kill("SIGKILL");
    const { signal, stdout, stderr } = await ended;
    assert.equal(signal, "SIGKILL", `it had ended before kill ${kill}:\n${stdout}${stderr}`);

    // 2) step N's checkpoint is complete once iter N is printed
    const announced = [...stdout.matchAll(/^saving checkpoint to .*\niter (\d+):/gm)].map(([, n]) => Number(n));
    const { iterNum, weights, temporary } = await inspect("killed");
    assert.ok(iterNum >= (announced.at(-1) ?? previous), `kill ${kill}: ${iterNum} after ${announced.at(-1)}`);
    assert.ok(iterNum >= previous);
    assert.ok(weights <= 2 && temporary <= 1, `kill ${kill} left ${readdirSync(outDir("killed"))}`);
    if (weights > 1 || temporary > 0) found.strays++;
    if (iterNum > previous) found.progress++;
    previous = iterNum;
  }
  // the moments were well chosen: saves were cut, and yet the run went on
  assert.ok(found.strays >= KILLS / 10, `only ${found.strays} kills fell into a save`);
  assert.ok(found.progress >= KILLS / 2, `only ${found.progress} runs got on`);

  // 3) to the end; the other run never saves but there
  const last = previous + 5;
  await Promise.all([
    train("killed", { max_iters: last, eval_interval: 1, init_from: "resume" }),
    train("calm", { max_iters: last, eval_interval: last }),
  ]);
  const steps = Array.from({ length: last }, (_, i) => i);
  for (const out of ["killed", "calm"]) {
    const { metadata } = await stateOf(out);
    assert.equal(metadata.iter_num, last);
    assert.equal(metadata.optimizer_steps, last);
    assert.deepEqual(readdirSync(outDir(out)).sort(), ["ckpt.json", "logs", "metrics.jsonl", metadata.weights.file]);
    assert.deepEqual(readHistory(outDir(out)).series.get("loss")!.iters, steps);
  }
  assert.ok(
    (await stateOf("killed")).weights.equals((await stateOf("calm")).weights),
    "other weights than without the kills",
  );
});
