// Speed of a training step: train.ts' without evaluation, logging and checkpoints. The tokens are random and made in advance, unless a
// dataset is named. It should run first in its process: peak memory and the time to the first step count from the process' start.

import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { whole } from "../common/format.ts";
import { keyOf } from "../common/rng.ts";
import { round } from "../common/statistics.ts";
import { measurePeak } from "../engine/runtime/peak.ts";
import { createEngine } from "../engine/runtime/program.ts";
import { datasetFile, datasetFolder } from "../text/dataset.ts";
import { checkBlockSize, TokenFile } from "../text/token_file.ts";
import { microBatchSize } from "../training/micro_batch.ts";
import { createObjective, emptyBatch } from "../training/objective.ts";
import { createOptimizer } from "../training/optimizers/create.ts";
import { Step } from "../training/step.ts";
import { type Benchmark, describeModel, MB, metric, peakRssMb, randomBatch, randomModel, rate } from "./benchmark.ts";

export const trainingThroughput: Benchmark = async (settings) => {
  const { batch_size: B, block_size: T, gradient_accumulation_steps: accumulation, seed } = settings;
  const { steps, warmup, grad_checkpoint } = settings;
  const rssImportMb = await currentRssMb(); // Node and the libraries, before the model

  // 1) model, data
  const model = randomModel(settings);
  const { vocab_size } = model.config;
  const file = settings.dataset ? new TokenFile(datasetFile(datasetFolder(settings.dataset), "train.bin")) : undefined;
  const rows = microBatchSize(B, T, settings.micro_batch_size);
  const micros = (accumulation * B) / rows;
  const shape = { B: rows, T, vocab_size, mask_fraction: 0.15, pairs: undefined };
  const objective = createObjective(model.config.architecture, shape);
  if (file) {
    checkBlockSize(file, T, objective.spans);
    file.vocabSize = vocab_size;
  }
  const batches = Array.from({ length: Math.min(16, (warmup + steps) * micros) }, (_, index) => {
    const key = keyOf(seed, "bench", index);
    if (!file) return randomBatch(objective, key, vocab_size);
    const batch = emptyBatch(objective);
    objective.draw(file, key, 0, batch);
    return batch;
  });
  file?.close();

  // 2) the compiled step
  const engine = await createEngine(settings);
  const profiles = join("out", "profiles");
  if (settings.profile) mkdirSync(profiles, { recursive: true });
  const compileStart = performance.now();
  const training = await Step.create({
    ...{ engine, parameters: model.parameters, groups: model.decayGroups(), inputs: objective.inputs },
    loss: ({ x, y, ...source }, rng) => model.loss(x, y, rng, source),
    optimizer: createOptimizer(settings.optimizer, settings),
    ...{ weight_decay: settings.weight_decay, grad_clip: settings.grad_clip, seed },
    ...{ half: settings.dtype === "float16", recompute: grad_checkpoint, microSteps: micros },
    profile: settings.profile ? join(profiles, `step_${process.pid}`) : undefined,
  });
  const compileMs = performance.now() - compileStart;

  // 3) warm up, then time each step
  let loss = 0;
  let firstStepS = 0;
  let rssWarmMb = 0;
  const times: number[] = []; // ms
  for (let step = 0; step < warmup + steps; step++) {
    const start = performance.now();
    ({ loss } = await training.run({
      iteration: step,
      learningRate: settings.learning_rate,
      batch: (micro) => batches[(step * micros + micro) % batches.length]!,
    }));
    if (step >= warmup) times.push(performance.now() - start);
    if (step === 0) firstStepS = performance.now() / 1000; // since the process started
    if (step === Math.max(0, warmup - 1)) rssWarmMb = await currentRssMb();
  }
  const growthMb = (await currentRssMb()) - rssWarmMb;
  const rssPeakMb = peakRssMb();
  const bytes = (tensors: readonly { data: Float32Array }[]) =>
    tensors.reduce((sum, { data }) => sum + data.byteLength, 0);
  const stateBytes = bytes(training.state.tensors()) - bytes(model.parameters); // the optimizer's
  await training.dispose();

  // 4) report
  const targets = batches[0]!.y.length / batches[0]!.x.length; // per token
  const flops = model.flopsPerToken(targets) * B * T * accumulation;
  const peak = await measurePeak(engine);
  const time = metric("ms_median", "ms", "lower", times);
  const gflops = rate("gflops", "GFLOP/s", times, flops / 1e9);
  const speed = rate("tokens_per_s", "tokens/s", times, B * T * accumulation);
  const mfu = rate("mfu", "", times, flops / peak);
  const fastest = metric("ms_min", "ms", "lower", [Math.min(...times)]);
  const memory = metric("peak_rss_mb", "MB", "lower", [rssPeakMb]);
  const compile = metric("compile_ms", "ms", "lower", [compileMs]);
  const firstStep = metric("first_step_s", "s", "lower", [firstStepS]);
  const { n_layer, n_head, n_embd, dropout, bias } = settings;
  return {
    metrics: [time, fastest, speed, gflops, mfu, memory, compile, firstStep],
    facts: {
      peak_gflops: round(peak / 1e9),
      rss_import_mb: round(rssImportMb),
      rss_growth_mb: round(growthMb), // from the end of the warm-up to the last step
      loss,
      params: model.numParams(false),
      optimizer_mb: stateBytes / MB,
      ...{ device: engine.description, threads: engine.threads, steps, warmup },
      ...{ n_layer, n_head, n_embd, block_size: T, batch_size: B, micro_batch_size: rows },
      ...{ gradient_accumulation_steps: accumulation, vocab_size, dropout, bias, grad_checkpoint },
      optimizer: settings.optimizer,
    },
    summary: [
      `device:      ${engine.description}`,
      `model:       ${describeModel(model)}; batch ${B} x ${accumulation}`,
      `step:        ${time.value.toFixed(2)} ms (median of ${steps}; fastest ${fastest.value.toFixed(2)})`,
      `throughput:  ${whole(speed.value)} tokens/s`,
      `rate:        ${gflops.value.toFixed(1)} GFLOP/s, mfu ${(100 * mfu.value).toFixed(1)} % of ${(peak / 1e9).toFixed(1)} in a matrix product`,
      `memory:      ${rssPeakMb.toFixed(0)} MB at its peak`,
      `start:       ${compileMs.toFixed(0)} ms to compile, ${firstStepS.toFixed(2)} s from start to the end of the first step`,
      ...(settings.profile ? profileLines(profiles) : []),
    ],
  };
};

/** Present memory (RSS) of this process, in MB; without garbage if Node was started with --expose-gc. */
async function currentRssMb(): Promise<number> {
  for (let i = 0; globalThis.gc && i < 3; i++) {
    globalThis.gc();
    await new Promise((resolve) => setTimeout(resolve, 50)); // pages return to the system a little later
  }
  return process.memoryUsage.rss() / MB;
}

/** The ten kinds of operations that took most of the time, from the profile that ONNX Runtime just wrote. */
function profileLines(directory: string): string[] {
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
  const top = [...byType].sort(([, a], [, b]) => b.us - a.us).slice(0, 10);
  return [
    `profile:     ${join(directory, file)}`,
    ...top.map(([type, { us, calls }]) => {
      const share = ((100 * us) / total).toFixed(1).padStart(5);
      return `  ${type.padEnd(24)} ${share} %  ${(us / 1000).toFixed(1).padStart(9)} ms in ${calls} calls`;
    }),
  ];
}
