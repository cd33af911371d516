// What the tests of callbacks share: a run to be watched, and what a trainer tells of it.

import assert from "node:assert/strict";
import { UserError } from "../../../lib/common/errors.ts";
import { createEngine } from "../../../lib/engine/runtime/program.ts";
import type { Callback, EndReason, Metrics, Run } from "../../../lib/monitor/callback.ts";
import { type Batch, createObjective } from "../../../lib/training/objective.ts";
import { GPT, type GPTConfig } from "../../../model.ts";
import { eventually } from "../../scripts.ts";

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

export const step = (callback: Callback, iter: number, metrics: Metrics = { loss: 1 / (iter + 1), lr: 0.001 }) =>
  callback.onStep!({ iter, metrics, gradScale: 1, histograms: new Map() });
export const evaluate = (callback: Callback, iter: number, texts: Record<string, string> = {}, loss = 2.5) =>
  callback.onEvaluate!({ iter, metrics: { "val/loss": loss }, best: true, texts: new Map(Object.entries(texts)) });
export const end = (callback: Callback, iter: number, reason: EndReason = "finished") =>
  callback.onTrainEnd!({ iter, reason });

/** The one line with which a tracker is refused. */
export async function refusalOf(check: Promise<void>): Promise<string> {
  const error: unknown = await check.then(
    () => assert.fail("it was not refused"),
    (error) => error,
  );
  assert.ok(error instanceof UserError, String(error));
  assert.doesNotMatch(error.message, /\n/);
  return error.message;
}

/** What a step throws once something has failed beside the training. */
export async function failureOf(callback: Callback, iter: number): Promise<string> {
  let message = "";
  await eventually(() => {
    try {
      step(callback, iter);
    } catch (error) {
      message = (error as Error).message;
    }
    return message !== "";
  }, "an error");
  return message;
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
  const run = aRun("nowhere", {
    config: { seed: 1, compile: true },
    facts: {},
    parameters: model.parameters,
    model,
    engine: await createEngine({ compile: true, threads: 1 }),
    inputs: createObjective("decoder", { B: 2, T: block_size, vocab_size, mask_fraction: 1, pairs: undefined }).inputs,
    validationBatch: () => ({ x, y: x }) as Batch,
    log: (line) => asked.lines.push(line),
    stop: (why) => asked.stops.push(why),
    rollBack(why) {
      asked.rollBacks.push(why);
      return canRollBack;
    },
    ...changes,
  });
  return { run, asked };
}
