// What the tests of callbacks share: a run to be watched.

import assert from "node:assert/strict";
import { createEngine } from "../../../lib/engine/runtime/program.ts";
import type { Run } from "../../../lib/monitor/callback.ts";
import { type Batch, createObjective } from "../../../lib/training/objective.ts";
import { GPT, type GPTConfig } from "../../../model.ts";

/** A run in a folder, without a model unless one is given; it takes no orders. */
export function aRun(outDir: string, overrides: Partial<Run> = {}): Run {
  const run: Omit<Run, "model" | "engine" | "inputs" | "validationBatch"> = {
    name: "toy",
    outDir,
    config: { dataset: "letters", learning_rate: 1e-3 },
    facts: { device: "cpu", parameters: 12 },
    parameters: [],
    tokenizer: undefined,
    micros: 1,
    startIter: 0,
    resumed: false,
    log: (line) => assert.fail(`a line that nobody asked for: ${line}`),
    learningRateScale: 1,
    abort: new AbortController().signal,
    stop: (why) => assert.fail(`stopped: ${why}`),
    rollBack: (why) => assert.fail(`rolled back: ${why}`),
  };
  return { ...run, ...overrides } as Run;
}

/** What the callbacks have said and asked for. */
export interface Asked {
  lines: string[];
  stops: string[];
  rollBacks: string[];
}

const SMALL = {
  n_layer: 2,
  n_head: 2,
  n_embd: 16,
  block_size: 8,
  vocab_size: 11,
  dropout: 0,
  bias: false,
  ffn: "relu" as const,
};

/** A run of a tiny model; `canRollBack` is what rollBack answers. */
export async function fakeRun(
  changes: Partial<Run> = {},
  { canRollBack = true, shape = {} }: { canRollBack?: boolean; shape?: Partial<GPTConfig> } = {},
): Promise<{ run: Run; asked: Asked }> {
  const asked: Asked = { lines: [], stops: [], rollBacks: [] };
  const model = new GPT({ ...SMALL, ...shape }).initWeights(1);
  const { block_size, vocab_size } = model.config;
  const x = Int32Array.from({ length: 2 * block_size }, (_, i) => (7 * i + 3) % vocab_size);
  const run: Run = {
    name: "fake",
    outDir: "nowhere",
    config: { seed: 1, compile: true },
    facts: {},
    parameters: model.parameters,
    model,
    engine: await createEngine({ compile: true, threads: 1 }),
    tokenizer: undefined,
    micros: 1,
    startIter: 0,
    resumed: false,
    learningRateScale: 1,
    abort: new AbortController().signal,
    inputs: createObjective("decoder", { B: 2, T: block_size, vocab_size, mask_fraction: 1, pairs: undefined }).inputs,
    validationBatch: () => ({ x, y: x }) as Batch,
    log: (line) => asked.lines.push(line),
    stop: (why) => asked.stops.push(why),
    rollBack(why) {
      asked.rollBacks.push(why);
      return canRollBack;
    },
    ...changes,
  };
  return { run, asked };
}
