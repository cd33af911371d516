// Benchmarks: nine by name, each a file under lib/bench/.
//
//   npx tsx bench.ts                                            # all but layers, the training step first: about two minutes
//   npx tsx bench.ts --benchmark=training_throughput --n_layer=6 --n_head=6 --n_embd=384 --block_size=256 --batch_size=16
//   npx tsx bench.ts --benchmark=sampling --compare=out/benchmarks/benchmark_sampling_....json
//   npx tsx bench.ts --profile=true                             # where a step's time goes, by ONNX Runtime's profiler
//
// --benchmark names the one to run. Without a name, --json and --profile run training_throughput, as they concern one training step,
// --compare the benchmark of its file, and else all run, with the shape given by flags; layers, which takes minutes, only by name.
// Figures are medians. Each benchmark writes a JSON file with all samples into --results.

import { runScript } from "./configurator.ts";
import type { Benchmark, Result } from "./lib/bench/benchmark.ts";
import type { Report } from "./lib/bench/report.ts";
import { type BenchSettings, MEASURING, NOT_MEASURED } from "./lib/bench/settings.ts";
import { UserError } from "./lib/common/errors.ts";
import { type FeedForwardName, LAYER_CHOICES } from "./lib/nn/choices.ts";
import { BENCHMARKS, type BenchmarkName } from "./lib/settings/rules.ts";
import { OPTIMIZER_CHOICES } from "./lib/training/choices.ts";

export const defaults = {
  ...MEASURING, // which benchmark, how often, where the figures go
  // data
  dataset: "", // a folder under data/, or a path; random tokens if empty
  vocab_size: 65, // of the random tokens
  batch_size: 12, // sequences in a batch
  micro_batch_size: 0, // of these, computed at once, to stay in the cache; 0 chooses. Divides batch_size
  gradient_accumulation_steps: 1, // batches in a step
  block_size: 64, // tokens in a sequence
  // model: nanoGPT's small one for a CPU
  n_layer: 4,
  n_head: 4,
  n_embd: 128,
  dropout: 0,
  bias: false, // in linear layers and layer norms?
  ffn: "gelu" as FeedForwardName, // activation of the MLP, "gelu_tanh" in GPT-2; swiglu, geglu and geglu_tanh have a gate; moe is a mixture of experts
  ...LAYER_CHOICES,
  ...OPTIMIZER_CHOICES,
  learning_rate: 1e-3,
  weight_decay: 0.1,
  beta1: 0.9,
  beta2: 0.99,
  grad_clip: 1, // the gradient norm is clipped to this; 0 for no limit
  // system
  device: "auto", // "auto" or "cpu"
  dtype: "float32", // or "float16": of the training step
  compile: true, // trace the step into one graph; false runs it eagerly, slowly
  grad_checkpoint: false, // keep only the blocks' inputs and compute the rest twice: less memory, more time
  threads: 0, // 0 for one per physical core
  seed: 1337,
} satisfies BenchSettings;

/** Loaded on demand, so that other benchmarks' imports don't count in the first one's time and memory. */
const benchmarks: Record<BenchmarkName, () => Promise<Benchmark>> = {
  training_throughput: async () => (await import("./lib/bench/training_throughput.ts")).trainingThroughput,
  sampling: async () => (await import("./lib/bench/sampling.ts")).sampling,
  startup: async () => (await import("./lib/bench/startup.ts")).startup,
  data_loading: async () => (await import("./lib/bench/data_loading.ts")).dataLoading,
  checkpoint: async () => (await import("./lib/bench/checkpoint.ts")).checkpoint,
  memory: async () => (await import("./lib/bench/memory.ts")).memory,
  watching: async () => (await import("./lib/bench/watching.ts")).watching,
  scaling: async () => (await import("./lib/bench/scaling.ts")).scaling,
  layers: async () => (await import("./lib/bench/layers.ts")).layers,
};

/** It takes minutes, so "all" doesn't include it. */
const BY_NAME: BenchmarkName = "layers";

/**
 * Run the benchmarks that `config` names: their figures go to stdout, and one JSON file each to config.results.
 * @throws UserError for settings that don't fit the benchmark
 */
export async function run(config: BenchSettings): Promise<void> {
  // 1) which ones; settings are checked before any work
  const earlier =
    config.compare === "" ? undefined : (await import("./lib/bench/report.ts")).readReport(config.compare);
  const names = chosen(config, earlier);
  const settings = { ...config, rounds: config.rounds || (names.length > 1 ? 2 : names[0] === BY_NAME ? 3 : 5) };
  if (config.results !== "") (await import("./lib/bench/report.ts")).prepareFolder(config.results);

  // 2) run them
  const figures: Record<string, Record<string, unknown>> = {};
  for (const name of names) {
    if (names.length > 1) console.log(`\n${name}`);
    const run = await benchmarks[name]();
    const result = await run(settings, (line) => console.error(line));
    for (const line of result.summary) console.log(line);
    figures[name] = { ...Object.fromEntries(result.metrics.map(({ name, value }) => [name, value])), ...result.facts };
    const report = await reportOf(name, result, settings);
    if (earlier)
      for (const line of (await import("./lib/bench/compare.ts")).compare(earlier, report)) console.log(line);
    if (config.results === "") continue;
    const { writeReport } = await import("./lib/bench/report.ts");
    console.log(`results:     ${writeReport(config.results, report)}`);
  }
  if (config.json) console.log(JSON.stringify(names.length > 1 ? figures : figures[names[0]!]));
}

/** The benchmarks to run, in order. */
function chosen(config: BenchSettings, earlier: Report | undefined): BenchmarkName[] {
  const { benchmark, json, profile, compare, to, lengths } = config;
  const implied = earlier?.name ?? (json || profile ? "training_throughput" : "all");
  const name = benchmark || implied;
  const names = BENCHMARKS.filter((known) => name === known || (name === "all" && known !== BY_NAME));
  if (earlier && (names.length !== 1 || names[0] !== earlier.name)) {
    throw new UserError(`${compare} is of benchmark ${earlier.name}, not of ${name}; leave --benchmark out`);
  }
  if (profile && !names.includes("training_throughput")) {
    throw new UserError(`--profile is about the training step, not about ${name}; use --benchmark=training_throughput`);
  }
  if (to !== "" && !names.includes("scaling") && !(names.includes("layers") && lengths.some(Boolean))) {
    throw new UserError(`--to is for scaling, and for layers with --lengths, not for ${name}; add --benchmark=scaling`);
  }
  for (const key of ["choices", "lengths"] as const) {
    if (!config[key].some(Boolean) || names.includes("layers")) continue;
    throw new UserError(`--${key} is for the layers benchmark, not for ${name}; add --benchmark=layers`);
  }
  const trains = (name: BenchmarkName) =>
    ["training_throughput", "startup", "memory", "watching", "scaling"].includes(name);
  const other = names.find((name) => !trains(name));
  if (config.dtype === "float16" && other) {
    throw new UserError(`--dtype=float16 is for training steps, not for ${other}; add --benchmark=training_throughput`);
  }
  return names;
}

async function reportOf(name: BenchmarkName, result: Result, settings: BenchSettings): Promise<Report> {
  const { machineOf, versions } = await import("./lib/bench/report.ts");
  const kept = Object.fromEntries(Object.entries(settings).filter(([key]) => !NOT_MEASURED.includes(key)));
  const { facts, metrics } = result;
  const date = new Date().toISOString();
  return { name, date, versions: versions(), hardware: machineOf(), settings: kept, facts, metrics };
}

await runScript(import.meta.url, defaults, run, { usage: "Measure training, sampling and the rest." });
