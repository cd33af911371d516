// train.ts with --grad_checkpoint: the same run as without, whole or resumed, to the bit.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import { loadCheckpoint } from "../engine/checkpoint.ts";
import { flags, succeed, temporaryFolder, tinyDataset } from "./scripts.ts";

const FOLDER = temporaryFolder();
const DATASET = tinyDataset(FOLDER);

/** A run of a second, with dropout and accumulation. */
const TINY = {
  dataset: DATASET,
  n_layer: 3,
  n_head: 2,
  n_embd: 32,
  block_size: 16,
  batch_size: 4,
  micro_batch_size: 2,
  gradient_accumulation_steps: 2,
  dropout: 0.2,
  learning_rate: 1e-2,
  warmup_iters: 5,
  lr_decay_iters: 10,
  max_iters: 10,
  eval_interval: 5,
  eval_iters: 2,
  threads: 1,
};

const train = (name: string, changes: Record<string, string | number | boolean>) =>
  succeed("train.ts", flags({ ...TINY, out_dir: join(FOLDER, name), ...changes }), { cwd: FOLDER });

/** The bytes of a run's weights and optimizer. */
function weightsOf(name: string): Buffer {
  const { tensors } = loadCheckpoint(join(FOLDER, name));
  tensors.close();
  return readFileSync(tensors.path);
}

test("a run that recomputes is the run that doesn't, also resumed by one and by the other: every bit", async () => {
  await train("plain", {});
  await train("again", { grad_checkpoint: true });
  await train("parts", { grad_checkpoint: true, max_iters: 5 });
  await train("parts", { grad_checkpoint: true, init_from: "resume" });
  await train("mixed", { max_iters: 5 });
  await train("mixed", { grad_checkpoint: true, init_from: "resume" });
  const plain = weightsOf("plain");
  for (const name of ["again", "parts", "mixed"]) assert.ok(weightsOf(name).equals(plain), name);
});
