// The cost of callbacks: blocks of training steps without callbacks and with all of them but histograms, alternating in one process,
// on the settings' model and random tokens. Left out: evaluations.

import { breathe } from "../common/breathe.ts";
import { Clock } from "../common/clock.ts";
import { startProgress } from "../common/progress.ts";
import { keyOf } from "../common/rng.ts";
import { withTemporaryFolder } from "../common/temporary_folder.ts";
import { createEngine } from "../engine/runtime/program.ts";
import type { StepEvent } from "../monitor/callback.ts";
import { earlyStop } from "../monitor/early_stop.ts";
import { layers } from "../monitor/layers.ts";
import { samples } from "../monitor/samples.ts";
import { stability } from "../monitor/stability.ts";
import { tensorboard } from "../monitor/tensorboard.ts";
import { Watch, watchRun } from "../monitor/watch.ts";
import { watchedRun } from "../monitor/watched_run.ts";
import { microBatchSize } from "../training/micro_batch.ts";
import { createObjective } from "../training/objective.ts";
import { createOptimizer } from "../training/optimizers/create.ts";
import { Step } from "../training/step.ts";
import { type Benchmark, describeModel, metric, type Result, randomBatch, randomModel } from "./benchmark.ts";
import type { BenchSettings } from "./settings.ts";

const BLOCK = 50; // steps in a block
const STATS_INTERVAL = 50; // each block has one step with layer statistics

export const watching: Benchmark = (settings, progress) =>
  withTemporaryFolder("bench", (folder) => measure(settings, progress, folder));

async function measure(settings: BenchSettings, progress: (line: string) => void, folder: string): Promise<Result> {
  // 1) a step, as train.ts makes it
  const { batch_size: B, block_size: T, gradient_accumulation_steps: accumulation, seed } = settings;
  const model = randomModel(settings);
  const rows = microBatchSize(B, T, settings.micro_batch_size);
  const micros = (accumulation * B) / rows;
  const { architecture, vocab_size } = model.config;
  const objective = createObjective(architecture, { B: rows, T, vocab_size, mask_fraction: 0.15, pairs: undefined });
  const batch = randomBatch(objective, keyOf(seed, "bench"), vocab_size);
  const engine = await createEngine(settings);
  const training = await Step.create({
    ...{ engine, parameters: model.parameters, groups: model.decayGroups(), inputs: objective.inputs },
    loss: ({ x, y, ...source }, rng) => model.loss(x, y, rng, source),
    optimizer: createOptimizer(settings.optimizer, settings),
    ...{ weight_decay: settings.weight_decay, grad_clip: settings.grad_clip, microSteps: micros, seed },
    ...{ half: settings.dtype === "float16", recompute: settings.grad_checkpoint },
  });
  async function step(iter: number): Promise<StepEvent> {
    const start = performance.now();
    const lr = settings.learning_rate;
    const { metrics, gradScale } = await training.run({ iteration: iter, learningRate: lr, batch: () => batch });
    const step_ms = performance.now() - start;
    const speed = { step_ms, tokens_per_s: (1000 * B * T * accumulation) / step_ms, mfu: 0.5 };
    return { iter, metrics: { ...metrics, lr, ...speed }, gradScale, histograms: new Map() };
  }

  // 2) the callbacks
  const clock = new Clock();
  const bar = startProgress(1, 0, () => {}); // lines are formatted, not printed
  const react = { lr_patience: 10, lr_factor: 0.5, spike_threshold: 1e6, rollback: true };
  const inspection = layers({ statsInterval: STATS_INTERVAL, histogramInterval: 0 });
  const first = [stability(react), earlyStop({ patience: 10 }), inspection, samples({ interval: 1 })];
  const everything = { first, writers: [tensorboard({ histogramInterval: 0 })] };
  const config = { ...settings, log_interval: 1, eval_only: false, max_iters: 1, eval_interval: 1 };
  const watch = watchRun(everything, config, bar, clock);
  const run = watchedRun({
    ...{ config: { ...settings, out_dir: folder }, model, engine, objective, tokenizer: undefined, micros },
    ...{ resumed: undefined, abort: new AbortController().signal, log: bar.log },
    validationBatch: () => batch,
  });
  await watch.onTrainStart(run);
  const nothing = new Watch([], () => {});

  // 3) alternate
  const times = { alone: [] as number[], watched: [] as number[] };
  let iter = 0;
  async function block(who: keyof typeof times, counts: boolean): Promise<void> {
    const by = who === "alone" ? nothing : watch;
    const start = performance.now();
    for (let i = 0; i < BLOCK; i++) {
      const event = await step(iter++);
      clock.lap("compute");
      await by.onStep(event);
    }
    if (counts) times[who].push((performance.now() - start) / BLOCK);
    await breathe();
  }
  const rounds = Math.max(4, Math.ceil(settings.steps / BLOCK));
  for (let round = -1; round < rounds; round++) {
    // each goes first in every other round: a drift affects both
    const order = round % 2 === 0 ? (["alone", "watched"] as const) : (["watched", "alone"] as const);
    for (const who of order) await block(who, round >= 0);
    if (round >= 0 && round % 5 === 4) progress(`watching ${round + 1}/${rounds}`);
  }
  await watch.onTrainEnd({ iter, reason: "finished" });
  await training.dispose();

  // 4) report
  const shares = times.watched.map((ms, i) => 100 * (ms / times.alone[i]! - 1));
  const [alone, watched] = [times.alone, times.watched].map((all, i) => {
    return metric(["step_ms", "watched_step_ms"][i]!, "ms", "lower", all);
  });
  const share = metric("overhead_percent", "%", "lower", shares);
  return {
    metrics: [alone!, watched!, share],
    facts: { device: engine.description, block: BLOCK, stats_interval: STATS_INTERVAL, ...model.config },
    summary: [
      `device:      ${engine.description}`,
      `model:       ${describeModel(model)}; batch ${B} x ${accumulation}`,
      `step:        ${alone!.value.toFixed(2)} ms alone, ${watched!.value.toFixed(2)} ms with everything but histograms`,
      `overhead:    ${share.value.toFixed(2)} % (median of ${shares.length} pairs of ${BLOCK} steps)`,
    ],
  };
}
