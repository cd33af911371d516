// How fast a training step is: the loop of train.ts without evaluation, logging and checkpoints.
//
//   tsx bench.ts --n_layer=6 --n_head=6 --n_embd=384 --block_size=256 --batch_size=16 --dropout=0.2
//   tsx bench.ts --profile=true      # where the time goes, by ONNX Runtime's own account
//
// Times are medians; the tokens are random and made before the clock runs, unless a dataset is named.

import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { configure } from "./configurator.ts";
import { datasetFolder } from "./data/dataset.ts";
import { readMeta } from "./data/meta.ts";
import { checkBlockSize, sampleBatch, TokenFile } from "./data/token_file.ts";
import { main } from "./engine/errors.ts";
import { microBatchSize } from "./engine/micro_batch.ts";
import { AdamW } from "./engine/optimizer.ts";
import { measurePeak } from "./engine/peak.ts";
import { createEngine } from "./engine/program.ts";
import { fillNormal, keyOf, uniform } from "./engine/rng.ts";
import { GPT } from "./model.ts";

const defaults = {
  // benchmark
  steps: 30, // timed steps
  warmup: 5, // steps before them
  profile: false, // say which kinds of operations take the time
  json: false, // print one JSON object last
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
  ffn: "gelu", // activation of the MLP: "gelu", or "gelu_tanh" as GPT-2 has
  // AdamW
  learning_rate: 1e-3,
  weight_decay: 0.1,
  beta1: 0.9,
  beta2: 0.99,
  grad_clip: 1, // longest gradient; 0 for no limit
  // system
  device: "auto", // "auto" or "cpu"
  dtype: "float32",
  compile: true, // trace the step into one graph; false runs it operation by operation, slowly
  threads: 0, // 0 for one a physical core
  seed: 1337,
};

await main(async () => {
  const config = await configure(import.meta.url, defaults, { usage: "Time the training step." });
  const { batch_size: B, block_size: T, gradient_accumulation_steps: accumulation, seed, dropout } = config;
  const { n_layer, n_head, n_embd, bias, ffn, steps, warmup } = config;

  // 1) data
  const folder = config.dataset === "" ? undefined : datasetFolder(config.dataset);
  const vocab_size = folder ? (readMeta(folder)?.vocab_size ?? 50_304) : config.vocab_size;
  const file = folder ? new TokenFile(join(folder, "train.bin")) : undefined;
  if (file) checkBlockSize(file, T);
  const rows = microBatchSize(B, T, config.micro_batch_size);
  const micros = (accumulation * B) / rows;
  const batches = Array.from({ length: Math.min(16, (warmup + steps) * micros) }, (_, index) => {
    const [x, y] = [new Int32Array(rows * T), new Int32Array(rows * T)];
    const key = keyOf(seed, "bench", index);
    if (file) sampleBatch(file, { B: rows, T }, (row) => uniform(key, row), x, y);
    else {
      for (let i = 0; i < x.length; i++) {
        x[i] = uniform(key, 2 * i) * vocab_size;
        y[i] = uniform(key, 2 * i + 1) * vocab_size;
      }
    }
    return { x, y };
  });

  // 2) model, optimizer, compiled step
  const model = new GPT({ block_size: T, vocab_size, n_layer, n_head, n_embd, dropout, bias, ffn });
  model.initWeights((out, name, deviation) => fillNormal(out, keyOf(seed, "init", name), deviation));
  const optimizer = new AdamW(model.decayGroups(), config);
  const engine = await createEngine(config);
  const profiles = join("out", "profiles");
  if (config.profile) mkdirSync(profiles, { recursive: true });
  const tokens = { shape: [rows, T], dtype: "int32" } as const;
  const compileStart = performance.now();
  const backward = await engine.program(({ x, y }, mask) => model.loss(x, y, mask), {
    variables: model.parameters,
    inputs: { x: tokens, y: tokens },
    gradients: true,
    profile: config.profile ? join(profiles, `step_${process.pid}`) : undefined,
  });
  const compileMs = performance.now() - compileStart;

  // 3) warm up, then time each step
  let loss = 0;
  let firstStepS = 0;
  const times: number[] = [];
  for (let step = 0; step < warmup + steps; step++) {
    const start = performance.now();
    for (let micro = 0; micro < micros; micro++) {
      const batch = batches[(step * micros + micro) % batches.length]!;
      [loss = 0] = await backward.run(batch, { dropout: [seed, step, micro], accumulate: micro > 0 });
    }
    optimizer.step(config.learning_rate, 1 / micros);
    if (step >= warmup) times.push(performance.now() - start);
    if (step === 0) firstStepS = performance.now() / 1000; // since the process started
  }
  const peakRssMb = process.resourceUsage().maxRSS / 1024;
  await backward.dispose();

  // 4) report
  const median = medianOf(times);
  const flops = model.flopsPerToken() * B * T * accumulation;
  const peak = await measurePeak(engine);
  const result = {
    ms_median: round(median),
    ms_min: round(Math.min(...times)),
    tokens_per_s: Math.round((B * T * accumulation) / (median / 1000)),
    gflops: round(flops / (median / 1000) / 1e9),
    mfu: round(model.estimateMfu(B * accumulation, median / 1000, peak)),
    peak_gflops: round(peak / 1e9),
    peak_rss_mb: round(peakRssMb),
    compile_ms: round(compileMs),
    first_step_s: round(firstStepS),
    loss,
    params: model.numParams(false),
    device: engine.description,
    threads: engine.threads,
    steps,
    warmup,
    ...{
      n_layer,
      n_head,
      n_embd,
      block_size: T,
      batch_size: B,
      micro_batch_size: rows,
      gradient_accumulation_steps: accumulation,
    },
    ...{ vocab_size, dropout, bias },
  };
  console.log(`device:      ${result.device}`);
  console.log(
    `model:       ${n_layer}/${n_head}/${n_embd}, block ${T}, batch ${B} x ${accumulation}, ${result.params.toLocaleString("en-US")} parameters`,
  );
  console.log(`step:        ${result.ms_median} ms (median of ${steps}; fastest ${result.ms_min})`);
  console.log(`throughput:  ${result.tokens_per_s.toLocaleString("en-US")} tokens/s`);
  console.log(
    `rate:        ${result.gflops} GFLOP/s, mfu ${(100 * result.mfu).toFixed(1)} % of ${result.peak_gflops} in a matrix product`,
  );
  console.log(`memory:      ${result.peak_rss_mb} MB at its peak`);
  console.log(
    `start:       ${result.compile_ms} ms to compile, ${result.first_step_s} s from start to the end of the first step`,
  );
  if (config.profile) printProfile(profiles);
  if (config.json) console.log(JSON.stringify(result));
});

function medianOf(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}

/** The ten kinds of operations that took most of the time, from the profile that ONNX Runtime just wrote. */
function printProfile(directory: string): void {
  const file = readdirSync(directory)
    .filter((name) => name.startsWith(`step_${process.pid}`))
    .at(-1)!;
  const events: { cat: string; dur: number; args?: { op_name?: string } }[] = JSON.parse(
    readFileSync(join(directory, file), "utf8"),
  );
  const byType = new Map<string, { us: number; calls: number }>();
  for (const { cat, dur, args } of events) {
    if (cat !== "Node" || !args?.op_name) continue;
    const sum = byType.get(args.op_name) ?? { us: 0, calls: 0 };
    byType.set(args.op_name, { us: sum.us + dur, calls: sum.calls + 1 });
  }
  const total = [...byType.values()].reduce((sum, { us }) => sum + us, 0);
  console.log(`profile:     ${join(directory, file)}`);
  for (const [type, { us, calls }] of [...byType].sort(([, a], [, b]) => b.us - a.us).slice(0, 10)) {
    console.log(
      `  ${type.padEnd(24)} ${((100 * us) / total).toFixed(1).padStart(5)} %  ${(us / 1000).toFixed(1).padStart(9)} ms in ${calls} calls`,
    );
  }
}
