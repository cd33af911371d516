// The contract of a benchmark: a function of bench.ts' settings that returns figures with their samples. Each is a file beside this
// one; bench.ts runs them by name. Also the model that several of them measure.

import { readFileSync } from "node:fs";

import { pick } from "../../configurator.ts";
import { GPT, LAYER_CHOICES } from "../../model.ts";
import { whole } from "../common/format.ts";
import { type Key, keyOf, uniform } from "../common/rng.ts";
import { median, round } from "../common/statistics.ts";
import { checkLoading } from "../formats/model_memory.ts";
import { datasetFolder } from "../text/dataset.ts";
import { readMeta } from "../text/meta.ts";
import { type Batch, emptyBatch, type Objective } from "../training/objective.ts";
import type { BenchSettings } from "./settings.ts";

/** One figure. */
export interface Metric {
  name: string;
  value: number; // the median of the samples, if any
  unit: string; // such as "ms", "tokens/s", "MB" (2^20 bytes); empty for a pure number
  better: "higher" | "lower";
  samples?: number[]; // the single measurements; without them the value is exact, such as a count of bytes
}

export interface Result {
  metrics: Metric[];
  facts: Record<string, number | string | boolean>; // the circumstances of the figures, for --json=true
  summary: string[]; // lines for people
}

/** @param progress reports intermediate results of benchmarks that take more than a few seconds */
export type Benchmark = (settings: BenchSettings, progress: (line: string) => void) => Promise<Result>;

export const MB = 2 ** 20; // bytes; all MB of the benchmarks are these

/** The figure of some samples: their median. */
export function metric(name: string, unit: string, better: Metric["better"], samples: readonly number[]): Metric {
  return { name, value: round(median(samples)), unit, better, samples: samples.map(round) };
}

/** An amount of work per second, from its `times` in ms: the value is that of the median time. */
export function rate(name: string, unit: string, times: readonly number[], amount: number): Metric {
  const perSecond = (ms: number) => round(amount / (ms / 1000));
  return { name, value: perSecond(median(times)), unit, better: "higher", samples: times.map(perSecond) };
}

/** An exact figure, the same in every run. */
export function exact(name: string, unit: string, better: Metric["better"], value: number): Metric {
  return { name, value, unit, better };
}

/** The settings' model with random weights. */
export function randomModel(settings: BenchSettings): GPT {
  const { block_size, n_layer, n_head, n_embd, dropout, bias, ffn, seed, dataset } = settings;
  const vocab_size = dataset ? (readMeta(datasetFolder(dataset))?.vocab_size ?? 50_304) : settings.vocab_size;
  const choices = pick(settings, Object.keys(LAYER_CHOICES) as (keyof typeof LAYER_CHOICES)[]);
  const config = { block_size, vocab_size, n_layer, n_head, n_embd, dropout, bias, ffn, ...choices };
  checkLoading(config, "this model", "float32");
  return new GPT(config).initWeights(seed);
}

/** Random tokens for a training batch of the objective; sources have full length. */
export function randomBatch(objective: Objective, key: Key, vocab_size: number): Batch {
  const batch = emptyBatch(objective);
  for (const [name, ids] of Object.entries(batch)) {
    const random = keyOf(...key, name);
    const longest = objective.inputs.x.shape[1]!;
    const below = name === "masked_positions" ? longest : vocab_size;
    for (let i = 0; i < ids.length; i++) ids[i] = name === "source_length" ? longest : uniform(random, i) * below;
  }
  return batch;
}

/** The model in a line, such as "4/4/128, block 64, 804,096 parameters": layers, heads and width first. */
export function describeModel(model: GPT): string {
  const { n_layer, n_head, n_embd, block_size } = model.config;
  return `${n_layer}/${n_head}/${n_embd}, block ${block_size}, ${whole(model.numParams(false))} parameters`;
}

/** Peak memory (RSS) of this process, in MB. */
export function peakRssMb(): number {
  // Linux' maxRSS counts what the parent held when it started this process; VmHWM doesn't
  const status = process.platform === "linux" ? readFileSync("/proc/self/status", "utf8") : "";
  const kib = /^VmHWM:\s*(\d+) kB/m.exec(status)?.[1];
  return (kib === undefined ? process.resourceUsage().maxRSS : Number(kib)) / 1024;
}
