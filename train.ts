// Trains a GPT on a folder of token files, from the settings below.
//
//   npx tsx train.ts config/train_shakespeare_char_cpu.ts --batch_size=32
//   npx tsx train.ts --init_from=resume --out_dir=out-shakespeare-char
//   npx tsx train.ts config/finetune_shakespeare.ts --init_from=gpt2
//
// Each run keeps one checkpoint in its out_dir; `--init_from=resume` continues from it, bit for bit. Left out so far:
// several processes, number formats other than float32 and float16.

import { join } from "node:path";
import { configure, pick } from "./configurator.ts";
import { Clock } from "./lib/common/clock.ts";
import { main } from "./lib/common/errors.ts";
import { stamp } from "./lib/common/file_names.ts";
import { lock } from "./lib/common/lock.ts";
import { Log } from "./lib/common/log.ts";
import { isMain } from "./lib/common/main_module.ts";
import { startProgress } from "./lib/common/progress.ts";
import { keyOf } from "./lib/common/rng.ts";
import { exitCodeOf, listenForInterrupt } from "./lib/common/signals.ts";
import { Peak } from "./lib/engine/runtime/peak.ts";
import { createEngine } from "./lib/engine/runtime/program.ts";
import { Cancelled } from "./lib/engine/runtime/session.ts";
import { beginModel, openWeights } from "./lib/formats/begin_model.ts";
import { MODEL_KEYS } from "./lib/formats/model_settings.ts";
import type { EndEvent, Metrics } from "./lib/monitor/callback.ts";
import { endBy, hasFinished } from "./lib/monitor/ending.ts";
import { REACTING, WATCHING } from "./lib/monitor/settings.ts";
import { chosenCallbacks, watchRun } from "./lib/monitor/watch.ts";
import { watchedRun } from "./lib/monitor/watched_run.ts";
import { type FeedForwardName, LAYER_CHOICES } from "./lib/nn/choices.ts";
import { datasetFolder } from "./lib/text/dataset.ts";
import { tokensOf } from "./lib/text/meta.ts";
import { checkSplits, openDataset } from "./lib/text/open_dataset.ts";
import { OPTIMIZER_CHOICES, SCHEDULE_CHOICES } from "./lib/training/choices.ts";
import { microBatchSize } from "./lib/training/micro_batch.ts";
import { createObjective, emptyBatch } from "./lib/training/objective.ts";
import { checkSameOptimizer, createOptimizer } from "./lib/training/optimizers/create.ts";
import { type Losses, RunCheckpoint, settingsOfRun } from "./lib/training/run_checkpoint.ts";
import { learningRateAt } from "./lib/training/schedule.ts";
import { Step } from "./lib/training/step.ts";

// The defaults train GPT-2 (124M) on OpenWebText; config/ has smaller ones.
export const defaults = {
  // I/O
  out_dir: "out", // folder of the checkpoint
  eval_interval: 2000, // steps between two evaluations
  log_interval: 1, // steps between two printed losses
  eval_iters: 200, // batches in an evaluation, for each split
  eval_only: false, // stop after the first evaluation
  always_save_checkpoint: true, // save at every evaluation, not only when the validation loss is the best so far
  init_from: "scratch", // or "resume" (out_dir's checkpoint), "gpt2" to "gpt2-xl", or the folder of a model
  ...WATCHING, // callbacks, statistics, samples, TensorBoard, MLflow
  wandb_log: false, // to Weights & Biases, through Python's wandb
  wandb_project: "owt", // MLflow's experiment too
  wandb_run_name: "gpt2", // the name of the run there
  ...REACTING, // early stopping, and what follows a plateau or a spike of the loss
  // data
  dataset: "openwebtext", // a folder under data/, or a path
  vocab_size: 50_304, // tokens of a dataset without a meta.json: GPT-2's, or another number for tokens of your own
  vocab: "same", // with init_from, the dataset's tokens: the "same" as the weights', or "extend" (the same ones keep their rows, others start fresh)
  gradient_accumulation_steps: 5 * 8, // batches in a step
  batch_size: 12, // sequences in a batch
  micro_batch_size: 0, // of these, computed at once, to stay in the cache; 0 chooses. Divides batch_size
  block_size: 1024, // tokens in a sequence
  mask_fraction: 0.15, // encoder: fraction of tokens masked (MLM)
  // model
  n_layer: 12,
  n_head: 12,
  n_embd: 768,
  dropout: 0, // 0 is good for pretraining; for finetuning and small data try 0.1 or more
  bias: false, // in linear layers and layer norms?
  ffn: "gelu" as FeedForwardName, // activation of the MLP, "gelu_tanh" in GPT-2; swiglu, geglu and geglu_tanh have a gate; moe is a mixture of experts
  ...LAYER_CHOICES,
  ...OPTIMIZER_CHOICES,
  learning_rate: 6e-4, // the highest; good ones differ between optimizers
  max_iters: 600_000, // steps in all
  weight_decay: 0.1,
  beta1: 0.9, // of adamw and lion
  beta2: 0.95, // of adamw and lion
  grad_clip: 1, // the gradient norm is clipped to this; 0 for no limit
  ema: 0, // decay of an EMA of the weights, such as 0.999, which is evaluated too and which sample.ts takes; 0 for none
  ...SCHEDULE_CHOICES,
  decay_lr: true, // false: always learning_rate, without a warmup
  warmup_iters: 2000,
  lr_decay_iters: 600_000, // about max_iters (Hoffmann et al. 2022)
  min_lr: 6e-5, // about a tenth of learning_rate
  // system
  backend: "mpi", // for several processes; a run is one process so far
  device: "auto", // "auto" or "cpu"
  dtype: "float32", // or "float16": matrix products in it, with a loss scale; no gain on a CPU (docs/concepts/mixed-precision.md)
  compile: true, // trace the step into one graph; false runs it eagerly, slowly
  grad_checkpoint: false, // keep only the blocks' inputs and compute the rest twice: less memory, a quarter more time
  threads: 0, // 0 for one per physical core
  seed: 1337, // weights, batches and dropout are functions of it
};
export type TrainConfig = typeof defaults;

/**
 * Train a model to its last step, or until a signal or a callback stops it; the checkpoint is in config.out_dir.
 * @throws UserError for settings, data or a checkpoint that can't be used
 */
export async function run(config: Readonly<TrainConfig>, log = new Log()): Promise<void> {
  const { out_dir, batch_size: B, gradient_accumulation_steps: accumulation, seed } = config;
  const callbacks = await chosenCallbacks(config);

  // 1) data
  const folder = datasetFolder(config.dataset);
  const dataset = openDataset(folder);
  const meta = tokensOf(dataset.meta, folder, config.vocab_size, log.line);

  // 2) model: new, or from other weights, whose shape then counts
  const held = config.eval_only ? undefined : lock(out_dir, "training"); // until this process ends
  const opened = await openWeights(config, log.line);
  const resumed = config.init_from === "resume" ? opened?.metadata : undefined;
  if (resumed && !config.eval_only) {
    checkSameOptimizer(config.optimizer, resumed.config, out_dir);
    if (hasFinished(resumed, config, log.line)) return;
  }
  const { model, tokens } = await beginModel(config, meta, opened, log.line); // token ids of the dataset are below `tokens`
  const { architecture, block_size: T, vocab_size } = model.config;
  const rows = microBatchSize(B, T, config.micro_batch_size); // sequences in a micro-batch
  const micros = (accumulation * B) / rows; // micro-batches in a step
  const tokensPerIter = accumulation * B * T;
  const shape = { B: rows, T, vocab_size, mask_fraction: config.mask_fraction };
  const objective = createObjective(architecture, { ...shape, pairs: meta?.pairs });
  checkSplits(dataset, T, objective.spans, tokens);
  log.line(`number of parameters: ${(model.numParams() / 1e6).toFixed(2)}M`);
  log.line(`tokens per iteration will be: ${tokensPerIter.toLocaleString("en-US")}`);

  // 3) the compiled step, and the loss alone for evaluation
  const engine = await createEngine(config);
  log.line(`device: ${engine.description}`);
  if (rows < B) log.line(`micro-batches: ${rows} sequences at once, ${micros} times a step`);
  const half = config.dtype === "float16";
  const step = await Step.create({
    engine,
    loss: ({ x, y, ...source }, rng) => model.loss(x, y, rng, source),
    parameters: model.parameters,
    groups: model.decayGroups(),
    inputs: objective.inputs,
    optimizer: createOptimizer(config.optimizer, config),
    ...pick(config, ["weight_decay", "grad_clip", "ema", "seed"]),
    half,
    recompute: config.grad_checkpoint,
    microSteps: micros,
  });
  const spec = { variables: model.parameters, inputs: objective.inputs, half };
  const forward = await engine.program(({ x, y, ...source }) => model.loss(x, y, undefined, source), spec);
  const { state, ema } = step;
  if (resumed && config.eval_only) await state.readAverage(opened!.tensors, resumed);
  else if (resumed) {
    await state.readRest(opened!.tensors, resumed);
    for (const line of state.differences(resumed)) log.line(line);
  }
  opened?.close();

  let iterNum = resumed?.iter_num ?? 0;
  const batch = emptyBatch(objective);
  const targets = batch.y.length / batch.x.length; // of each token: an encoder's are the masked ones alone

  /** Micro-batch number `index` for a `purpose` at step `iter`, the same in every run with this seed; valid until the next call. */
  function getBatch(split: "train" | "val", purpose: string, index: number, iter = iterNum): typeof batch {
    objective.draw(dataset.splits[split], keyOf(seed, purpose, split, iter), index * rows, batch);
    return batch;
  }

  /** The mean loss of a split over eval_iters batches, without dropout. */
  async function estimateLoss(split: "train" | "val"): Promise<number> {
    let mean = 0;
    const count = (config.eval_iters * B) / rows;
    for (let k = 0; k < count; k++) {
      const [loss] = await forward.run(getBatch(split, "eval", k), { signal: interrupt.abort });
      mean += loss! / count;
      progress.update(iterNum, `evaluating ${split} ${Math.round((100 * (k + 1)) / count)} %`);
    }
    return mean;
  }

  // 4) the checkpoint, and the callbacks, which watch the run and may end it or send it back
  const clock = new Clock();
  const progress = startProgress(config.max_iters, iterNum, log.line);
  const peak = new Peak(engine, progress.log); // mfu is measured against it
  const checkpoint = new RunCheckpoint({
    folder: out_dir,
    always: config.always_save_checkpoint,
    held,
    state,
    resumed,
    seed,
    clock,
    describe: () => ({
      model_args: { ...model.config },
      config: { ...config, ...pick(model.config, MODEL_KEYS) },
      callbacks: watch.state(),
      tokenizer: meta ?? null,
    }),
    log: progress.log,
    onSave: (saved) => watch.onCheckpoint(saved),
  });
  const watch = watchRun(callbacks, config, progress, clock, checkpoint);
  watch.restore(resumed?.callbacks ?? {});
  const interrupt = listenForInterrupt((signal) => {
    progress.stop(); // now, because a second one ends the process
    progress.log(`${signal}: stopping; once more ends at once`);
  });
  const run = watchedRun({
    config,
    model,
    engine,
    objective,
    micros,
    tokenizer: meta,
    resumed,
    checkpoint,
    abort: interrupt.abort,
    log: progress.log,
    validationBatch: () => getBatch("val", "watch", 0, 0),
  });
  const { wish } = run;

  // 5) the loop: max_iters steps, and evaluations between them, at the beginning and the end
  let end: Omit<EndEvent, "iter"> = { reason: "finished" };
  try {
    if (!config.eval_only) log.open(join(out_dir, "logs", `train_${run.name}_${stamp()}.log`));
    await watch.onTrainStart(run);
    for (let localIter = 0; !interrupt.heard; localIter++) {
      // evaluate, and keep the best weights
      const isEnd = iterNum >= config.max_iters || config.eval_only || wish.stop !== undefined;
      if (isEnd || iterNum % config.eval_interval === 0) {
        clock.lap("other");
        const losses: Losses = { train: await estimateLoss("train"), val: await estimateLoss("val") };
        if (ema) losses.ema = await ema.during(() => estimateLoss("val"));
        clock.lap("evaluate");
        const metrics: Metrics = { "train/loss": losses.train, "val/loss": losses.val };
        if (losses.ema !== undefined) metrics["val/ema_loss"] = losses.ema;
        const best = checkpoint.evaluated(losses);
        await watch.onEvaluate({ iter: iterNum, metrics, best, texts: new Map() });
        await peak.lookAgain();
        if (config.eval_only) break;
        const stops = isEnd || wish.stop !== undefined; // a callback may just have asked for it
        await checkpoint.offer({ iter: iterNum, losses }, stops);
        if (stops) break;
      }

      // a step
      const start = performance.now();
      clock.lap("other");
      const lr = learningRateAt(iterNum, config) * run.learningRateScale;
      const made = await step.run({
        iteration: iterNum,
        learningRate: lr,
        signal: interrupt.abort,
        batch: (micro) => getBatch("train", "train", micro),
        onPhase: (phase) => clock.lap(phase),
      });
      const seconds = (performance.now() - start) / 1000;
      const iter = iterNum++; // whatever fails below, the weights are past this step
      checkpoint.sound = Number.isFinite(made.loss) && Number.isFinite(made.metrics.grad_norm ?? 0);

      // report it
      const speed = { step_ms: 1000 * seconds, tokens_per_s: tokensPerIter / seconds };
      const metrics: Metrics = { loss: made.loss, lr, ...made.metrics, ...speed };
      if (localIter >= 5) metrics.mfu = model.estimateMfu(B * accumulation, seconds, await peak.flops(), targets);
      if (made.skipped) progress.log(`step ${iter}: ${made.skipped}`);
      await watch.onStep({ iter, metrics, gradScale: made.gradScale, histograms: new Map() });
      if (wish.rollBack) {
        iterNum = await checkpoint.rollBack();
        progress.log(`${wish.rollBack}: back to the checkpoint of step ${iterNum}`);
        delete wish.rollBack;
      }
    }
    if (interrupt.heard) throw new Cancelled(); // heard between two steps: none was cancelled
    if (wish.stop) end = { reason: "stopped", why: wish.stop };
    if (!config.eval_only) await checkpoint.end(wish.stop ? undefined : iterNum);
  } catch (error) {
    end = endBy(error);
    if (end.reason === "failed") log.keep(`error: ${end.why}`);
    const tell = (other: unknown) => progress.log(`the last state isn't saved: ${other}`);
    if (!step.updating) await checkpoint.cutShort(iterNum).catch(tell);
    if (end.reason === "failed") throw error;
  } finally {
    progress.stop(); // also before the line of an error
    await watch.onTrainEnd({ iter: iterNum, ...end });
  }
  if (interrupt.heard) process.exitCode = exitCodeOf(interrupt.heard);
}

if (isMain(import.meta.url)) {
  await main(async () => {
    const log = new Log(); // also of the settings' lines
    const options = { usage: "Train a GPT.", log: log.line, under: settingsOfRun };
    await run(await configure(import.meta.url, defaults, options), log);
  });
}
