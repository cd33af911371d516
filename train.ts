// Trains a GPT on a folder of token files, from the settings below.
//
//   tsx train.ts config/train_shakespeare_char.ts --batch_size=32 --dropout=0
//
// Each run keeps one checkpoint in its out_dir; `--init_from=resume` goes on from it, to the bit. Left out so far:
// several processes, number formats other than float32.

import { accessSync, constants, existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";

import { configure, sourceOf } from "./configurator.ts";
import { datasetFolder, shownPath } from "./data/dataset.ts";
import { GPT2_META, readMeta } from "./data/meta.ts";
import { checkBlockSize, sampleBatch, TokenFile } from "./data/token_file.ts";
import { saveCheckpoint } from "./engine/checkpoint.ts";
import { explain, main, UserError } from "./engine/errors.ts";
import { microBatchSize } from "./engine/micro_batch.ts";
import { AdamW } from "./engine/optimizer.ts";
import { measurePeak } from "./engine/peak.ts";
import { createEngine } from "./engine/program.ts";
import { fillNormal, keyOf, uniform } from "./engine/rng.ts";
import { openModel } from "./formats/pretrained.ts";
import { GPT, type GPTConfig } from "./model.ts";
import { startProgress } from "./monitor/progress.ts";

// The defaults train GPT-2 (124M) on OpenWebText; config/ has smaller ones.
const defaults = {
  // I/O
  out_dir: "out", // folder of the checkpoint
  eval_interval: 2000, // steps between two evaluations
  log_interval: 1, // steps between two printed losses
  eval_iters: 200, // batches in an evaluation, for each split
  eval_only: false, // stop after the first evaluation
  always_save_checkpoint: true, // save at every evaluation, not only when the validation loss is the best so far
  init_from: "scratch", // or "resume" (out_dir's checkpoint), "gpt2" to "gpt2-xl", or the folder of a model
  // logging with Weights & Biases
  wandb_log: false, // not available yet
  wandb_project: "owt",
  wandb_run_name: "gpt2",
  // data
  dataset: "openwebtext", // a folder under data/, or a path
  gradient_accumulation_steps: 5 * 8, // batches in a step
  batch_size: 12, // sequences in a batch
  micro_batch_size: 0, // of these, computed at once, to stay in the cache; 0 chooses. Divides batch_size
  block_size: 1024, // tokens in a sequence
  // model
  n_layer: 12,
  n_head: 12,
  n_embd: 768,
  dropout: 0, // 0 is good for pretraining; for finetuning and small data try 0.1 or more
  bias: false, // in linear layers and layer norms?
  ffn: "gelu", // activation of the MLP: "gelu", or "gelu_tanh" as GPT-2 has
  // AdamW
  learning_rate: 6e-4, // the highest
  max_iters: 600_000, // steps in all
  weight_decay: 0.1,
  beta1: 0.9,
  beta2: 0.95,
  grad_clip: 1, // longest gradient; 0 for no limit
  // learning rate schedule
  decay_lr: true, // warmup, then a cosine down to min_lr; else always learning_rate
  warmup_iters: 2000,
  lr_decay_iters: 600_000, // about max_iters (Hoffmann et al. 2022)
  min_lr: 6e-5, // about a tenth of learning_rate
  // system
  backend: "mpi", // for several processes; a run is one process so far
  device: "auto", // "auto" or "cpu"
  dtype: "float32",
  compile: true, // trace the step into one graph; false runs it operation by operation, slowly
  threads: 0, // 0 for one a physical core
  seed: 1337, // weights, batches and dropout are functions of it
};
export type TrainConfig = typeof defaults;

await main(async () => {
  const config = await configure(import.meta.url, defaults, { usage: "Train a GPT." });
  const { out_dir, batch_size: B, gradient_accumulation_steps: accumulation, seed } = config;

  // 1) data
  const folder = datasetFolder(config.dataset);
  const meta = readMeta(folder);
  const splits = { train: new TokenFile(join(folder, "train.bin")), val: new TokenFile(join(folder, "val.bin")) };
  if (meta) console.log(`found vocab_size = ${meta.vocab_size} (inside ${shownPath(join(folder, "meta.json"))})`);

  // 2) model: new, or from other weights, whose shape then counts
  const opened = config.init_from === "scratch" ? undefined : await openModel(config.init_from, out_dir);
  const resumed = config.init_from === "resume" ? opened?.metadata : undefined;
  const { n_layer, n_head, n_embd, block_size, bias, ffn, dropout } = config;
  const vocab_size = meta?.vocab_size ?? 50_304; // GPT-2's 50,257, rounded up to a multiple of 64
  const shape = { n_layer, n_head, n_embd, block_size, vocab_size };
  const modelArgs: GPTConfig = { ...shape, bias, ffn, tie_weights: true, dropout };
  let crop = false;
  if (opened) {
    const { source, modelArgs: saved } = opened;
    console.log(`${resumed ? "Resuming training from" : "Initializing with the weights of"} ${source}`);
    crop = !resumed && block_size < saved.block_size && sourceOf(config, "block_size") !== undefined;
    for (const key of ["n_layer", "n_head", "n_embd", "block_size", "bias", "ffn"] as const) {
      if (saved[key] === config[key] || !sourceOf(config, key) || (crop && key === "block_size")) continue;
      console.log(`${key} is ${saved[key]}, as in the checkpoint (${config[key]} by ${sourceOf(config, key)})`);
    }
    Object.assign(modelArgs, saved, { dropout });
    const tokens = (meta ?? GPT2_META).vocab_size;
    if (modelArgs.vocab_size < tokens) {
      throw new UserError(
        `the model in ${source} knows ${modelArgs.vocab_size} tokens, dataset ${config.dataset} has ${tokens}; ` +
          "take the dataset that it was trained on, or --init_from=scratch",
      );
    }
  } else {
    console.log("Initializing a new model from scratch");
    if (!meta) console.log(`no meta.json in ${shownPath(folder)}: vocab_size is ${vocab_size}, for GPT-2's tokens`);
  }
  const model = new GPT(modelArgs);
  if (opened) opened.read(model);
  else model.initWeights((out, name, deviation) => fillNormal(out, keyOf(seed, "init", name), deviation));
  if (crop) model.cropBlockSize(block_size);
  const T = model.config.block_size;
  for (const split of Object.values(splits)) checkBlockSize(split, T);
  console.log(`number of parameters: ${(model.numParams() / 1e6).toFixed(2)}M`);
  console.log(`tokens per iteration will be: ${(accumulation * B * T).toLocaleString("en-US")}`);

  // 3) optimizer
  const optimizer = new AdamW(model.decayGroups(), config);
  if (resumed) {
    for (const { name, shape, data } of optimizer.tensors()) opened!.tensors.read(name, shape, data);
    optimizer.steps = resumed.optimizer_steps;
  }
  opened?.close();

  // 4) the two programs: the loss alone for evaluation, and with its gradients
  const engine = await createEngine(config);
  console.log(`device: ${engine.description}`);
  const rows = microBatchSize(B, T, config.micro_batch_size);
  const micros = (accumulation * B) / rows; // micro-batches in a step
  if (rows < B) console.log(`micro-batches: ${rows} sequences at once, ${micros} times a step`);
  const tokens = { shape: [rows, T], dtype: "int32" } as const;
  const spec = { variables: model.parameters, inputs: { x: tokens, y: tokens } };
  const forward = await engine.program(({ x, y }) => model.loss(x, y), spec);
  const backward = await engine.program(({ x, y }, mask) => model.loss(x, y, mask), { ...spec, gradients: true });
  const peak = await measurePeak(engine);
  console.log(
    `peak: ${Number((peak / 1e9).toPrecision(3))} GFLOP/s in a matrix product on this device; mfu is measured against it`,
  );

  const startIter = resumed?.iter_num ?? 0;
  let iterNum = startIter;
  let bestValLoss = resumed?.best_val_loss ?? Number.POSITIVE_INFINITY;
  const batch = { x: new Int32Array(rows * T), y: new Int32Array(rows * T) };

  /** Draw micro-batch number `index` of a purpose: the same sequences in every run with this seed. */
  function getBatch(split: "train" | "val", purpose: string, index: number): typeof batch {
    const key = keyOf(seed, purpose, split, iterNum);
    sampleBatch(splits[split], { B: rows, T }, (row) => uniform(key, index * rows + row), batch.x, batch.y);
    return batch;
  }

  /** The mean loss of each split over eval_iters batches, without dropout. */
  async function estimateLoss(): Promise<{ train: number; val: number }> {
    const losses = { train: 0, val: 0 };
    for (const split of ["train", "val"] as const) {
      const count = (config.eval_iters * B) / rows;
      for (let k = 0; k < count && !interrupted; k++) {
        const [loss] = await forward.run(getBatch(split, "eval", k));
        losses[split] += loss! / count;
        progress.update(iterNum, `evaluating ${split} ${Math.round((100 * (k + 1)) / count)} %`);
      }
    }
    return losses;
  }

  /** Linear warmup, then a cosine from learning_rate down to min_lr at lr_decay_iters. */
  function learningRateAt(iter: number): number {
    const { learning_rate, min_lr, warmup_iters, lr_decay_iters } = config;
    if (!config.decay_lr) return learning_rate;
    if (iter < warmup_iters) return (learning_rate * (iter + 1)) / (warmup_iters + 1);
    if (iter > lr_decay_iters) return min_lr;
    const done = (iter - warmup_iters) / Math.max(1, lr_decay_iters - warmup_iters);
    return min_lr + 0.5 * (1 + Math.cos(Math.PI * done)) * (learning_rate - min_lr);
  }

  function save(): void {
    progress.log(`saving checkpoint to ${out_dir}`);
    const state = {
      model_args: { ...model.config },
      config: { ...config },
      iter_num: iterNum,
      best_val_loss: Number.isFinite(bestValLoss) ? bestValLoss : null,
      rng: { seed, iteration: iterNum },
      optimizer_steps: optimizer.steps,
      tokenizer: meta ?? null,
    };
    try {
      saveCheckpoint(out_dir, state, [...model.parameters, ...optimizer.tensors()]);
    } catch (error) {
      throw explain(error, `can't write the checkpoint to ${out_dir}`);
    }
  }

  // 5) the loop
  if (!resumed && existsSync(join(out_dir, "ckpt.json"))) console.log(`the checkpoint in ${out_dir} will be replaced`);
  try {
    mkdirSync(out_dir, { recursive: true });
    accessSync(out_dir, constants.W_OK);
  } catch (error) {
    throw explain(error, "can't make or write the folder of --out_dir");
  }
  const progress = startProgress(config.max_iters, iterNum);
  let interrupted: NodeJS.Signals | undefined;
  // heard between two steps; once, so that the second Ctrl-C is the system's own and ends the process
  for (const signal of ["SIGINT", "SIGTERM"] as const)
    process.once(signal, () => {
      interrupted ??= signal;
      progress.stop(); // now, because the second one ends the process without a chance to
      progress.log(`${signal}: stopping after this step; once more ends at once`);
    });
  let runningMfu = -1;
  let last = performance.now();
  try {
    for (let localIter = 0; !interrupted; localIter++) {
      // evaluate, and keep the best weights
      if (iterNum % config.eval_interval === 0 || config.eval_only) {
        const losses = await estimateLoss();
        if (interrupted) break;
        progress.log(`step ${iterNum}: train loss ${losses.train.toFixed(4)}, val loss ${losses.val.toFixed(4)}`);
        if (config.eval_only) break;
        if (losses.val < bestValLoss || config.always_save_checkpoint) {
          bestValLoss = Math.min(bestValLoss, losses.val);
          if (iterNum > 0) save();
        }
      }

      // forward and backward, micro-batch by micro-batch, then the update
      let lossSum = 0;
      for (let micro = 0; micro < micros; micro++) {
        const options = { dropout: [seed, iterNum, micro], accumulate: micro > 0 };
        const [loss] = await backward.run(getBatch("train", "train", micro), options);
        lossSum += loss!;
      }
      optimizer.step(learningRateAt(iterNum), 1 / micros);

      // timing and logging
      const now = performance.now();
      const seconds = (now - last) / 1000;
      last = now;
      const loss = lossSum / micros;
      if (iterNum % config.log_interval === 0) {
        if (localIter >= 5) {
          const mfu = model.estimateMfu(B * accumulation, seconds, peak);
          runningMfu = runningMfu < 0 ? mfu : 0.9 * runningMfu + 0.1 * mfu;
        }
        const speed = `${Math.round((B * T * accumulation) / seconds).toLocaleString("en-US")} tokens/s`;
        const times = `time ${(seconds * 1000).toFixed(2)}ms, mfu ${(runningMfu * 100).toFixed(2)}%, ${speed}`;
        progress.log(`iter ${iterNum}: loss ${loss.toFixed(4)}, ${times}`);
      }
      progress.update(iterNum, `loss ${loss.toFixed(4)}`);
      iterNum++;
      if (iterNum > config.max_iters) break;
    }
  } finally {
    progress.stop(); // also before the line of an error
  }
  if (interrupted) {
    if (iterNum > startIter) save(); // before that there is nothing new, and perhaps another run's checkpoint
    const goOn = `go on with: tsx train.ts ${resumeArguments(process.argv.slice(2))}`;
    console.log(`stopped before step ${iterNum}; ${iterNum > 0 ? goOn : "there is nothing to save yet"}`);
    process.exitCode = interrupted === "SIGINT" ? 130 : 143;
  }
});

/** The command line's arguments with --init_from=resume for whatever --init_from was, to be pasted into a shell. */
function resumeArguments(args: readonly string[]): string {
  const others = args.filter((arg, i) => !/^--init_from(=|$)/.test(arg) && args[i - 1] !== "--init_from");
  const quoted = (arg: string) => (/^[\w@%+=:,./-]+$/.test(arg) ? arg : `'${arg.replaceAll("'", "'\\''")}'`);
  return [...others, "--init_from=resume"].map(quoted).join(" ");
}
