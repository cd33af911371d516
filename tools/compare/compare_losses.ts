// Compares training with PyTorch's: both train from the same weights on the same batches, and every loss is compared:
//
//   npx tsx tools/compare/compare_losses.ts --nanogpt=PATH --python=PATH
//
// Exit code 1 if two losses of a step differ by more than --tolerance. The default is a wide one: 500
// steps of the small model agree to 3e-6, while a GELU of the other form moves the first 150 losses by only 2e-5. If
// a difference is large, --float64=true and --one_thread=true let PyTorch run again, in double precision and on one
// thread: how far it then differs from itself shows how much is amplified rounding. Left out: dropout (the
// masks differ), evaluation, GPUs.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { runScript, sourceOf } from "../../configurator.ts";
import { UserError } from "../../lib/common/errors.ts";
import { alignTable } from "../../lib/common/format.ts";
import { keyOf, uniform } from "../../lib/common/rng.ts";
import { writeSafetensors } from "../../lib/common/safetensors.ts";
import { withTemporaryFolder } from "../../lib/common/temporary_folder.ts";
import { z } from "../../lib/common/zod.ts";
import { createEngine } from "../../lib/engine/runtime/program.ts";
import { datasetFile, datasetFolder, shownPath } from "../../lib/text/dataset.ts";
import { readMeta } from "../../lib/text/meta.ts";
import { sampleBatch, TokenFile } from "../../lib/text/token_file.ts";
import { microBatchSize } from "../../lib/training/micro_batch.ts";
import { adamw } from "../../lib/training/optimizers/adamw.ts";
import { learningRateAt } from "../../lib/training/schedule.ts";
import { Step } from "../../lib/training/step.ts";
import { GPT } from "../../model.ts";
import { pathOf, requireNanoGPT, requireTorch, runContender } from "./rival.ts";

const RIVAL = join(dirname(fileURLToPath(import.meta.url)), "losses_torch.py");
const MARKS = [1, 10, 100, 250, 500]; // steps, counted from 1, whose losses are shown

export const defaults = {
  nanogpt: "", // a checkout of karpathy/nanoGPT
  python: "python3", // a Python that has torch and numpy
  steps: 500,
  tolerance: 1e-3, // largest difference between two losses of a step
  float64: false, // let PyTorch run in double precision too
  one_thread: false, // let PyTorch run on one thread too
  keep: "", // a folder for the weights, batches and losses; a temporary one if empty
  // data
  dataset: "shakespeare_char", // a folder under data/, or a path; "random" for random tokens
  vocab_size: 65, // of the random tokens
  batch_size: 12, // sequences in a batch
  micro_batch_size: 0, // of these, computed at once by us; 0 chooses. Divides batch_size
  block_size: 64, // tokens in a sequence
  // model
  n_layer: 4,
  n_head: 4,
  n_embd: 128,
  bias: false, // in linear layers and layer norms?
  // AdamW and its learning rate, as in config/train_shakespeare_char_cpu.ts
  learning_rate: 1e-3, // the highest
  min_lr: 1e-4,
  warmup_iters: 100,
  lr_decay_iters: 2000,
  weight_decay: 0.1, // of matrices
  beta1: 0.9,
  beta2: 0.99,
  grad_clip: 1, // the gradient norm is clipped to this; 0 for no limit
  // system
  compile: true, // false: our slow twin
  threads: 2,
  seed: 1337, // of the weights and batches
};
type Config = Readonly<typeof defaults>;

interface Run {
  name: string;
  losses: number[];
}

/** All batches of the run, each [steps, B, T]. */
interface Batches {
  x: Int32Array;
  y: Int32Array;
}

/** Print both runs' losses; exit code 1 if they differ. @throws UserError if the opponent is missing */
export async function run(config: Config): Promise<void> {
  checkOpponent(config);
  if (config.keep === "") return await withTemporaryFolder("compare", (folder) => compare(config, folder));
  mkdirSync(config.keep, { recursive: true });
  await compare(config, resolve(config.keep));
}

async function compare(config: Config, folder: string): Promise<void> {
  const { steps, batch_size: B, block_size, n_layer, n_head, n_embd, bias, threads, seed, tolerance } = config;

  // 1) the same input for both
  const { vocab_size, batches } = drawBatches(config);
  const shape = { n_layer, n_head, n_embd, block_size, vocab_size, bias };
  const model = new GPT({ ...shape, dropout: 0, ffn: "gelu" }).initWeights(seed);
  const learningRates = Array.from({ length: steps }, (_, iter) => learningRateAt(iter, { ...config, decay_lr: true }));
  const { beta1, beta2, weight_decay, grad_clip } = config;
  writeSafetensors(join(folder, "weights.safetensors"), model.parameters);
  const tensor = (name: "x" | "y") => ({ name, shape: [steps, B, block_size], data: batches[name] });
  writeSafetensors(join(folder, "batches.safetensors"), [tensor("x"), tensor("y")]);
  const run = { model: shape, beta1, beta2, weight_decay, grad_clip, learning_rates: learningRates };
  writeFileSync(join(folder, "run.json"), JSON.stringify(run));
  console.log(
    `model: ${n_layer}/${n_head}/${n_embd}, block ${block_size}, batch ${B}, ${bias ? "with" : "no"} bias, ` +
      `${model.numParams(false).toLocaleString("en-US")} weights; ${steps} steps`,
  );

  // 2) train both
  const ours: Run = { name: "ours", losses: await train(model, batches, learningRates, config) };
  writeFileSync(join(folder, "ours.json"), JSON.stringify(ours.losses));
  const torch = await runTorch("PyTorch", config, folder, "float32", threads);
  const others: Run[] = [];
  if (config.one_thread) others.push(await runTorch("PyTorch, 1 thread", config, folder, "float32", 1));
  const exact = config.float64 ? await runTorch("PyTorch, float64", config, folder, "float64", threads) : undefined;
  if (exact) others.push(exact);

  // 3) the verdict
  const runs = [ours, torch, ...others];
  const marks = [...MARKS.filter((step) => step < steps), steps];
  console.log("\nloss at step");
  console.log(
    alignTable([
      ["", ...marks.map(String)],
      ...runs.map(({ name, losses }) => [name, ...marks.map((step) => losses[step - 1]!.toFixed(6))]),
    ]),
  );
  const pairs: [Run, Run][] = [[ours, torch], ...others.map((other): [Run, Run] => [torch, other])];
  if (exact) pairs.push([ours, exact]);
  console.log("\nabsolute difference at step");
  console.log(
    alignTable([
      ["", ...marks.map(String), "mean", "largest", "(step)"],
      ...pairs.map(([a, b]) => {
        const { all, mean, largest, at } = difference(a, b);
        const figures = [...marks.map((step) => all[step - 1]!), mean, largest];
        return [`${a.name} - ${b.name}`, ...figures.map((figure) => figure.toExponential(1)), String(at)];
      }),
    ]),
  );
  const { largest, at } = difference(ours, torch);
  // written so that NaN fails
  if (!(largest <= tolerance)) {
    throw new UserError(
      `our loss and PyTorch's differ by ${largest.toExponential(2)} at step ${at}, above the tolerance of ${tolerance}`,
    );
  }
  console.log(
    `\nequal: no two losses of a step differ by more than ${largest.toExponential(2)} (allowed: ${tolerance})`,
  );
}

/** Check for the opponent's parts before training. */
function checkOpponent({ nanogpt, python }: Config): void {
  requireNanoGPT(nanogpt);
  requireTorch(python);
}

/** The batches of train.ts with this seed, or random tokens. */
function drawBatches(config: Config): { vocab_size: number; batches: Batches } {
  const { steps, batch_size: B, block_size: T, seed } = config;
  const batches = { x: new Int32Array(steps * B * T), y: new Int32Array(steps * B * T) };
  const folder = config.dataset === "random" ? undefined : datasetFolder(config.dataset);
  const path = folder && datasetFile(folder, "train.bin");
  // the default dataset is optional; a given one isn't
  if (!folder || !path || (!existsSync(path) && !sourceOf(config, "dataset"))) {
    console.log(`data: random tokens${path ? `, as there is no ${shownPath(path)}` : ""}`);
    const text = (step: number, at: number) => Math.floor(uniform(keyOf(seed, "tokens", step), at) * config.vocab_size);
    for (let i = 0; i < batches.x.length; i++) {
      const step = Math.floor(i / (B * T));
      const [row, column] = [Math.floor((i % (B * T)) / T), i % T];
      batches.x[i] = text(step, row * (T + 1) + column);
      batches.y[i] = text(step, row * (T + 1) + column + 1);
    }
    return { vocab_size: config.vocab_size, batches };
  }
  const file = new TokenFile(path);
  for (let step = 0; step < steps; step++) {
    const key = keyOf(seed, "train", "train", step);
    const part = (all: Int32Array) => all.subarray(step * B * T, (step + 1) * B * T);
    sampleBatch(file, { B, T }, (row) => uniform(key, row), part(batches.x), part(batches.y));
  }
  file.close();
  console.log(`data: ${shownPath(path)}`);
  return { vocab_size: readMeta(folder)?.vocab_size ?? 50_304, batches };
}

/** Our training: the loss of every step, before its update. */
async function train(model: GPT, batches: Batches, learningRates: number[], config: Config): Promise<number[]> {
  const { batch_size: B, block_size: T } = config;
  const engine = await createEngine(config);
  const rows = microBatchSize(B, T, config.micro_batch_size);
  console.log(`ours: ${engine.description}, ${rows} sequences at once`);
  const tokens = { shape: [rows, T], dtype: "int32" } as const;
  const micros = B / rows;
  const training = await Step.create({
    ...{ engine, parameters: model.parameters, groups: model.decayGroups(), inputs: { x: tokens, y: tokens } },
    loss: ({ x, y }) => model.loss(x, y),
    optimizer: adamw(config),
    ...{ weight_decay: config.weight_decay, grad_clip: config.grad_clip, microSteps: micros },
  });
  const losses: number[] = [];
  for (const [iteration, learningRate] of learningRates.entries()) {
    const batch = (micro: number) => {
      const at = (iteration * micros + micro) * rows * T;
      return { x: batches.x.subarray(at, at + rows * T), y: batches.y.subarray(at, at + rows * T) };
    };
    losses.push((await training.run({ iteration, learningRate, batch })).loss);
  }
  await training.dispose();
  return losses;
}

/** PyTorch's losses on what lies in the folder. */
async function runTorch(name: string, config: Config, folder: string, dtype: string, threads: number): Promise<Run> {
  console.log(`${name}: ${dtype}, ${threads} thread${threads > 1 ? "s" : ""}`);
  const path = join(folder, `torch-${dtype}-${threads}.json`);
  const flags = { nanogpt: resolve(config.nanogpt), folder: resolve(folder), losses: resolve(path), dtype, threads };
  const args = [RIVAL, ...Object.entries(flags).map(([key, value]) => `--${key}=${value}`)];
  await runContender(name, pathOf(config.python), args);
  // Python writes NaN and Infinity, which JSON doesn't have
  const text = readFileSync(path, "utf8").replaceAll(/NaN|-?Infinity/g, "null");
  const losses = z.array(z.nullable(z.number())).parse(JSON.parse(text));
  return { name, losses: losses.map((loss) => loss ?? Number.NaN) };
}

/** How far two runs are apart: at each step, on average, and at most, with the step (from 1) of that. */
function difference(a: Run, b: Run): { all: number[]; mean: number; largest: number; at: number } {
  if (a.losses.length !== b.losses.length) throw new Error(`internal: ${a.name} and ${b.name} ran unlike many steps`);
  const all = a.losses.map((loss, i) => Math.abs(loss - b.losses[i]!));
  const largest = Math.max(...all); // NaN if one of them is
  const at = 1 + all.findIndex((value) => Object.is(value, largest));
  return { all, mean: all.reduce((sum, value) => sum + value, 0) / all.length, largest, at };
}

await runScript(import.meta.url, defaults, run, { usage: "Compare our losses with PyTorch's." });
