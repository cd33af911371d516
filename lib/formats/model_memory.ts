// Does a model fit into this machine's memory? Checked before anything is allocated: a setting with a digit too many is then one line,
// not an hour of swapping or a killed process. The sum is a lower bound, so that nothing that works is refused; the libraries' own
// memory and most temporary values are left out.

import { totalmem } from "node:os";
import { type FullConfig, GPT, type GPTConfig, LAYER_CHOICES } from "../../model.ts";
import { UserError } from "../common/errors.ts";
import { sizeOf } from "../common/shape.ts";
import type { OptimizerName } from "../training/choices.ts";
import { microBatchSize } from "../training/micro_batch.ts";
import { createOptimizer, type OptimizerOptions } from "../training/optimizers/create.ts";
import type { Optimizer } from "../training/optimizers/optimizer.ts";

const FLOAT = 4; // bytes

export interface MemoryLimit {
  bytes: number;
  what: string; // "this machine has", "this container may use"
}

/** The most memory that this process may use: the machine's, or the limit of its control group (a container's). */
export function memoryLimit(machine = totalmem(), constrained = process.constrainedMemory()): MemoryLimit {
  const isLimited = constrained > 0 && constrained < machine; // 0, or more than the machine has: no limit
  return isLimited
    ? { bytes: constrained, what: "this container may use" }
    : { bytes: machine, what: "this machine has" };
}

/** The number of weights of a model, without creating it. */
export const countWeights = (config: GPTConfig) => countIn(config, (model) => model.numParams(false));

/** The numbers of an optimizer's state. */
function countState(config: GPTConfig, optimizer: Optimizer): number {
  const shapes = ({ parameters }: GPT) => parameters.flatMap((weight) => Object.values(optimizer.state(weight)));
  return countIn(config, (model) => shapes(model).reduce((sum, shape) => sum + sizeOf(shape!), 0));
}

/** Layers are alike, so the second one gives the size of each. */
function countIn(config: GPTConfig, of: (model: GPT) => number): number {
  const { n_layer } = config;
  const count = (layers: number) => of(new GPT({ ...config, n_layer: layers }));
  if (n_layer === 1) return count(1);
  const [one, two] = [count(1), count(2)];
  return one + (n_layer - 1) * (two - one);
}

/** The settings that decide how much memory training adds. */
export interface Training extends OptimizerOptions {
  block_size: number;
  batch_size: number;
  micro_batch_size: number;
  gradient_accumulation_steps: number;
  optimizer: OptimizerName;
  ema: number;
  grad_checkpoint: boolean;
  eval_only: boolean;
}

/**
 * Check that this machine has the memory to train a model.
 * @throws UserError with the estimate
 */
export function checkTraining(config: GPTConfig, training: Training, limit?: MemoryLimit): void {
  const weights = FLOAT * countWeights(config);
  const { optimizer, ema, eval_only, batch_size, micro_batch_size } = training;
  const T = Math.min(config.block_size, training.block_size);
  const rows = microBatchSize(batch_size, T, micro_batch_size);
  const model = { ...LAYER_CHOICES, ...config, block_size: T };
  check(
    "training this model",
    [
      ["weights", weights],
      ["gradients", eval_only ? 0 : weights],
      [optimizer, eval_only ? 0 : FLOAT * countState(config, createOptimizer(optimizer, training))],
      ["ema", ema > 0 ? weights : 0],
      ["activations", activationBytes(model, rows, eval_only || training.grad_checkpoint)],
    ],
    "lower --n_layer, --n_embd, --block_size or --micro_batch_size",
    limit,
  );
}

/**
 * Check that this machine has the memory to load a model.
 * @param what which model, for the message
 * @param dtype of the weights in memory: "float32" or "int8"
 * @throws UserError with the estimate
 */
export function checkLoading(config: GPTConfig, what: string, dtype: string, limit?: MemoryLimit): void {
  const bytes = dtype === "int8" ? 1 : FLOAT;
  const advice = dtype === "int8" ? "take a smaller model" : "take a smaller model, or sample with --dtype=int8";
  check(what, [["weights", bytes * countWeights(config)]], advice, limit);
}

/** Bytes of activations kept for the backward pass; with `recomputed`, of one block. */
function activationBytes(config: FullConfig, rows: number, recomputed: boolean): number {
  const { architecture, n_layer, n_embd: C, block_size: T, vocab_size: V, n_hidden, attention, n_head } = config;
  const layer = 6 * C + (n_hidden || 2 * C); // of a token: into the norms, query, key, value, out of attention; the MLP's units
  const layers = recomputed ? layer : n_layer * layer;
  const scores = attention === "dense" ? n_head * T * (recomputed ? 1 : n_layer) : 0;
  const logits = architecture === "encoder" ? 0 : V; // an encoder's are of the masked tokens alone
  return FLOAT * rows * T * (layers + scores + logits);
}

/** @throws UserError if the sum exceeds the memory */
function check(
  what: string,
  parts: readonly (readonly [name: string, bytes: number])[],
  advice: string,
  limit = memoryLimit(),
): void {
  const total = parts.reduce((sum, [, bytes]) => sum + bytes, 0);
  if (total <= limit.bytes) return;
  const sum = parts.flatMap(([name, bytes]) => (bytes > 0 ? [`${name} ${size(bytes)}`] : [])).join(", ");
  const shown = parts.length > 1 ? ` (${sum})` : "";
  throw new UserError(
    `${what} takes ${size(total)} at least${shown}, and ${limit.what} ${size(limit.bytes)}; ${advice}`,
  );
}

/** "1.5 GB": GB of 2^30 bytes, as systems show them. */
function size(bytes: number): string {
  const gb = bytes / 2 ** 30;
  if (gb < 1) return `${Math.ceil(bytes / 2 ** 20).toLocaleString("en-US")} MB`;
  return `${gb.toLocaleString("en-US", { maximumFractionDigits: gb < 100 ? 1 : 0 })} GB`;
}
