// What the tests that train share: short runs of train.ts on made-up words in a folder of their own, and what two of them
// left, compared to the bit.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { sizeOf } from "../lib/common/shape.ts";
import { loadCheckpoint } from "../lib/training/checkpoint.ts";
import { assertSucceeded, flags, oneProcess, succeed, temporaryFolder, tinyDataset } from "./scripts.ts";

export type Changes = Record<string, string | number | boolean>;

const TINY = {
  n_layer: 2,
  n_head: 2,
  n_embd: 32,
  block_size: 16,
  batch_size: 4,
  gradient_accumulation_steps: 2,
  dropout: 0.2,
  learning_rate: 1e-2,
  eval_iters: 2,
  threads: 1,
};

/** A folder for runs with these settings; a run is its out_dir's name. */
export function tinyRuns<T extends Changes>(changes: T) {
  const folder = temporaryFolder();
  const settings = { dataset: tinyDataset(folder), ...TINY, ...changes };
  const outDir = (name: string) => join(folder, name);
  const args = (name: string, more: Changes = {}) => flags({ ...settings, out_dir: outDir(name), ...more });

  const runHere = oneProcess();

  /** Train to the end; gives what was printed. All these runs share a process, since a start takes longer than such a run. */
  const train = async (name: string, more: Changes = {}) =>
    assertSucceeded(await runHere("train.ts", args(name, more), folder), `train.ts ${name}`);

  /** The same in a process of its own: what a resumed run knows, it knows from its folder. */
  const trainAlone = (name: string, more: Changes = {}) => succeed("train.ts", args(name, more), { cwd: folder });

  /** All that a checkpoint says about the state of a run: not its settings, of which a resumed run has others. */
  async function stateOf(name: string) {
    const { metadata, tensors } = await loadCheckpoint(outDir(name));
    const weights = readFileSync(tensors.path);
    tensors.close();
    const { config: _, ...rest } = metadata;
    return { weights, metadata: rest, names: [...tensors.entries.keys()] };
  }

  async function assertSameState(a: string, b: string): Promise<void> {
    const [one, other] = [await stateOf(a), await stateOf(b)];
    assert.deepEqual(one.metadata, other.metadata);
    assert.ok(one.weights.equals(other.weights), `${a} and ${b} have other weights`);
  }

  async function tensorOf(name: string, tensor: string): Promise<Float32Array> {
    const { tensors } = await loadCheckpoint(outDir(name));
    const { shape } = tensors.entries.get(tensor)!;
    const data = new Float32Array(sizeOf(shape));
    tensors.read(tensor, shape, data);
    tensors.close();
    return data;
  }

  return { folder, settings, outDir, args, train, trainAlone, runHere, stateOf, assertSameState, tensorOf };
}
