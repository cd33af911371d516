// How fast everything is: nine benchmarks by name, each a file under lib/bench/.
//
//   npx tsx bench.ts                                            # all but layers, the training step first: some two minutes
//   npx tsx bench.ts --benchmark=training_throughput --n_layer=6 --n_head=6 --n_embd=384 --block_size=256 --batch_size=16
//   npx tsx bench.ts --benchmark=sampling --compare=out/benchmarks/benchmark_sampling_....json
//   npx tsx bench.ts --profile=true                             # where a step's time goes, by ONNX Runtime's own account
//
// Which one runs: the one that --benchmark names. Without a name, --json and --profile mean training_throughput,
// since they are about one training step, --compare means the benchmark that its file is of, and else all run, on the
// shape that the flags give; layers, which takes minutes, only by its name. Figures are medians. Each benchmark writes a
// JSON file with all samples into --results.

import { configure } from "./configurator.ts";
import type { Benchmark, Result } from "./lib/bench/benchmark.ts";
import type { Report } from "./lib/bench/report.ts";
import { NOT_MEASURED } from "./lib/bench/settings.ts";
import { main, UserError } from "./lib/common/errors.ts";
import { isMain } from "./lib/common/main_module.ts";
import { BENCHMARKS, type BenchmarkName, type OptimizerName } from "./lib/settings/rules.ts";

export const defaults = {
  // benchmark
  benchmark: "", // training_throughput, sampling, startup, data_loading, checkpoint, memory, watching, scaling, layers, or all but layers; without a name --json and --profile run training_throughput, --compare its file's, and else all run
  steps: 30, // timed training steps
  warmup: 5, // steps before them
  rounds: 0, // how often whole processes and slow things are measured; 0 for 5, 3 for layers, 2 where all benchmarks run
  profile: false, // say which kinds of operations take a training step's time
  json: false, // print one JSON object last
  results: "out/benchmarks", // folder of the result files; empty writes none
  compare: "", // an earlier result file: print the ratios, and what got slower by more than its noise
  // of single benchmarks
  max_new_tokens: 100, // sampling, layers: timed tokens in a round; a small model is at its full speed after some thousands
  data_mb: 64, // data_loading: size of the token file
  factors: [0.5, 1, 2], // scaling: of each size, around the shape below
  choices: [] as string[], // layers: the settings that take other values, such as pos,ffn; empty for all
  lengths: [0], // layers: training's memory at so many tokens in a sequence, such as 1024,2048, in place of all else; 0 for none
  to: "", // scaling: write a page and a picture, out/scaling for out/scaling.md and out/scaling.svg; layers with lengths: a picture
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
  ffn: "gelu", // of the MLP: "gelu", "gelu_tanh" as GPT-2 has, "relu", "relu2", "silu"; with a gate "swiglu", "geglu", "geglu_tanh"; "moe"
  // layer choices beyond GPT-2 (docs/concepts/layers.md)
  architecture: "decoder", // "decoder", "encoder" or "encoder_decoder"
  pos: "learned", // positions: "learned", "sinusoidal", "rotary", "alibi", "relative", "none"
  rope_theta: 10_000, // rotary: how slowly the slowest channels turn
  rope_fraction: 1, // rotary: share of a head's channels that turn
  relative_buckets: 32, // relative: of distances
  relative_max_distance: 128, // relative: from here on all share the last bucket
  attention: "auto", // how it is computed: in blocks of queries ("auto", or "flash": memory linear in length), or "dense"
  attn_block_size: 0, // queries of a block; 0 for 128
  n_kv_head: 0, // heads of keys and values; 0 for n_head
  window: 0, // positions that attention sees, the own one included; 0 for all before
  attn_global: 0, // with a window: the first so many are seen by all
  attn_stride: 0, // with a window: and every so manieth
  attn_stride_from: "start", // counted from there, or back from the "query"
  attn_softcap: 0, // attention scores stay below; 0 for no limit
  qk_norm: false, // normalise queries and keys
  n_hidden: 0, // hidden units of the MLP; 0 for 4 n_embd, or 8/3 n_embd where it has a gate
  n_expert: 8, // moe: MLPs to choose from
  n_expert_active: 2, // moe: of which a token has so many
  n_shared_hidden: 0, // moe: hidden units of one more, which every token has; 0 for none
  expert_capacity: 0, // moe: rows that an expert takes at most, over its even share; 0 for all
  router_aux_coef: 0.01, // moe: of the loss that balances the experts; 0 for none
  router_z_coef: 0.001, // moe: of the one that keeps the router's logits small; 0 for none
  norm: "layernorm", // or "rmsnorm"
  norm_position: "pre", // or "post", "sandwich"
  norm_eps: 1e-5, // added to a variance
  parallel_block: false, // attention and MLP side by side
  parallel_norms: 1, // with it: one norm for both, or 2
  stochastic_depth: 0, // chance that a sequence skips the last layer in training; earlier ones in proportion
  tie_weights: true, // the token embeddings are the output layer too
  logit_softcap: 0, // logits stay below; 0 for no limit
  // optimizer
  optimizer: "adamw" as OptimizerName, // or "lion", "muon", "adafactor", "sgd"
  learning_rate: 1e-3,
  weight_decay: 0.1,
  beta1: 0.9,
  beta2: 0.99,
  momentum: 0.95, // of muon and sgd
  grad_clip: 1, // longest gradient; 0 for no limit
  // system
  device: "auto", // "auto" or "cpu"
  dtype: "float32", // or "float16": of the training step
  compile: true, // trace the step into one graph; false runs it operation by operation, slowly
  grad_checkpoint: false, // keep only the blocks' inputs and compute the rest twice: less memory, more time
  threads: 0, // 0 for one a physical core
  seed: 1337,
};
export type BenchSettings = Readonly<typeof defaults>;

/** Each is loaded when its turn comes, so that no other's imports are in the first one's time and memory. */
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

/** It takes minutes, so it isn't one of "all". */
const BY_NAME: BenchmarkName = "layers";

/**
 * Run the benchmarks that `config` names: their figures go to stdout, and a JSON file each to config.results.
 * @throws UserError for settings that don't fit the benchmark
 */
export async function run(config: BenchSettings): Promise<void> {
  // 1) which ones; all that can be refused is refused before any work
  const earlier =
    config.compare === "" ? undefined : (await import("./lib/bench/report.ts")).readReport(config.compare);
  const names = chosen(config, earlier);
  const settings = { ...config, rounds: config.rounds || (names.length > 1 ? 2 : names[0] === BY_NAME ? 3 : 5) };
  if (config.results !== "") (await import("./lib/bench/report.ts")).prepareFolder(config.results);

  // 2) one after the other
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

/** The benchmarks to run, in their order. */
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
  const trains = (name: BenchmarkName) => ["training_throughput", "startup", "memory", "scaling"].includes(name);
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

if (isMain(import.meta.url)) {
  await main(async () =>
    run(await configure(import.meta.url, defaults, { usage: "Measure training, sampling and the rest." })),
  );
}
