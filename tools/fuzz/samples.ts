// Small intact files of every kind, for kinds.ts to damage.

import { copyFileSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { readBytes, readText } from "../../lib/common/read_file.ts";
import { writeSafetensors } from "../../lib/common/safetensors.ts";
import { ROOT } from "../../lib/common/scripts.ts";
import { writeHuggingFace } from "../../lib/formats/huggingface.ts";
import { writeNanoGPT } from "../../lib/formats/nanogpt.ts";
import { prepareCharacters } from "../../lib/text/characters.ts";
import { noTally } from "../../lib/text/documents.ts";
import { type Meta, readMeta } from "../../lib/text/meta.ts";
import { PartialDataset } from "../../lib/text/partial_dataset.ts";
import { sha256 } from "../../lib/text/text.ts";
import { saveCheckpoint } from "../../lib/training/checkpoint.ts";
import { adamw } from "../../lib/training/optimizers/adamw.ts";
import { optimizerState } from "../../lib/training/update.ts";
import { GPT, type GPTConfig } from "../../model.ts";
import { defaults as trainDefaults } from "../../train.ts";
import { STAGES } from "../pipeline/state.ts";

export const TEXT = "a bad cab, a dead bee\nfed a cafe\n".repeat(40);
const DATE = "2026-11-28T12:00:00.000Z";
const SMALL = { block_size: 8, n_layer: 1, n_head: 2, n_embd: 8, dropout: 0, bias: true, ffn: "gelu" as const };

function model(vocab_size: number, changes: Partial<GPTConfig> = {}): GPT {
  return new GPT({ ...SMALL, vocab_size, ...changes }).initWeights(1);
}

function dataset(folder: string): Meta {
  prepareCharacters({ text: TEXT, source: { name: "text", sha256: "0".repeat(64) }, directory: folder });
  return readMeta(folder)!;
}

const CALLBACKS = {
  stability: { scale: 0.5, waited: 1, last: 40, rolled_back: 1, losses: [2.5, 2.25] },
  early_stop: { waited: 1, last: 40 },
  samples: { evaluations: 3, last: 40 },
};

/** out/ and data/: a run's checkpoint and its dataset, as train.ts leaves them. */
export async function checkpoint(folder: string): Promise<void> {
  const tokenizer = dataset(join(folder, "data"));
  const gpt = model(tokenizer.vocab_size);
  const optimizer = adamw({ beta1: 0.9, beta2: 0.95 });
  const state = gpt.parameters.flatMap((weight) => optimizerState(optimizer, weight));
  const out = join(folder, "out");
  const config = { ...trainDefaults, ...SMALL, out_dir: "out", dataset: "./data", batch_size: 2, eval_iters: 1 };
  await saveCheckpoint(
    out,
    {
      model_args: { ...gpt.config },
      config: { ...config, gradient_accumulation_steps: 1, max_iters: 50, lr_decay_iters: 50, warmup_iters: 5 },
      iter_num: 40,
      best_val_loss: 2.5,
      rng: { seed: 1337, iteration: 40 },
      optimizer_steps: 40,
      callbacks: {},
      tokenizer,
    },
    [...gpt.parameters, ...state],
  );
  const weights = readdirSync(out).find((name) => name.startsWith("weights"))!;
  renameSync(join(out, weights), join(out, "weights.safetensors"));
  refreshChecksum(out);
  writeFileSync(join(out, "callbacks.json"), JSON.stringify(CALLBACKS));
}

/** Update ckpt.json to match the weights. */
export function refreshChecksum(out: string): void {
  const path = join(out, "ckpt.json");
  const file = "weights.safetensors";
  const bytes = readBytes(join(out, file), { most: 1e6 });
  if (!bytes) return;
  const json = JSON.parse(readFileSync(path, "utf8"));
  const weights = { file, bytes: bytes.length, sha256: sha256(bytes) };
  writeFileSync(path, JSON.stringify({ ...json, weights }, null, 2));
}

/** Move callbacks.json's content into ckpt.json, where the callbacks' state is. */
export function putCallbacks(out: string): void {
  const path = join(out, "ckpt.json");
  const { callbacks: _, ...json } = JSON.parse(readFileSync(path, "utf8"));
  const state = readText(join(out, "callbacks.json"), { most: 1e7 }) ?? "";
  writeFileSync(path, `${JSON.stringify(json).slice(0, -1)},"callbacks":${state}}`);
}

const LLAMA = {
  bias: false,
  ffn: "swiglu" as const,
  pos: "rotary",
  norm: "rmsnorm",
  n_hidden: 16,
  norm_eps: 1e-6,
} as const;

export async function huggingface(folder: string, kind: "gpt2" | "llama"): Promise<void> {
  const meta = dataset(join(folder, "data"));
  rmSync(join(folder, "data"), { recursive: true });
  const gpt = model(meta.vocab_size, kind === "llama" ? LLAMA : { ffn: "gelu_tanh" as const });
  await writeHuggingFace(gpt, meta, folder);
}

export async function shards(folder: string): Promise<void> {
  await huggingface(folder, "gpt2");
  const gpt = model(readMeta(folder)!.vocab_size, { ffn: "gelu_tanh" as const });
  rmSync(join(folder, "model.safetensors"));
  const half = gpt.parameters.length >> 1;
  const parts = { "one.safetensors": gpt.parameters.slice(0, half), "two.safetensors": gpt.parameters.slice(half) };
  const weight_map: Record<string, string> = {};
  for (const [name, tensors] of Object.entries(parts)) {
    writeSafetensors(join(folder, name), tensors);
    for (const tensor of tensors) weight_map[tensor.name] = name;
  }
  writeFileSync(
    join(folder, "model.safetensors.index.json"),
    JSON.stringify({ metadata: { total_size: 1 }, weight_map }),
  );
}

/** A model for GPT-2's tokens, with a tokenizer. */
export async function foreignTokenizer(folder: string): Promise<void> {
  await writeHuggingFace(model(50_257, { ffn: "gelu_tanh" as const, n_embd: 2, n_head: 1 }), undefined, folder);
  const vocab = { Ġt: 256, Ġthe: 262, Ġgazed: 50_255 };
  writeFileSync(join(folder, "vocab.json"), JSON.stringify(vocab));
  writeFileSync(join(folder, "tokenizer.json"), JSON.stringify({ model: { vocab } }));
}

export function nanogpt(folder: string): void {
  const meta = dataset(join(folder, "data"));
  rmSync(join(folder, "data"), { recursive: true });
  writeNanoGPT(model(meta.vocab_size), meta, folder);
}

/** A checkpoint, and an earlier export of it. */
export async function exported(folder: string): Promise<void> {
  await checkpoint(folder);
  const { exportModel } = await import("../../lib/formats/export_folder.ts");
  const meta = readMeta(join(folder, "data"))!;
  await exportModel(model(meta.vocab_size, { ffn: "gelu_tanh" as const }), meta, {
    to: join(folder, "exported"),
    format: "hf",
    source: "out",
  });
  const path = join(folder, "out", "ckpt.json");
  writeFileSync(path, readFileSync(path, "utf8").replaceAll('"ffn": "gelu"', '"ffn": "gelu_tanh"'));
}

// ---- runs ----

function metricsText(config: Record<string, unknown>): string {
  const time = Date.parse(DATE);
  const facts = { device: "cpu", threads: 2, parameters: 1000, tokens_per_iter: 64, dataset: "text", vocab_size: 9 };
  const lines: object[] = [{ event: "start", time, iter: 0, resumed: false, name: "out", pid: 1, config, facts }];
  for (let iter = 0; iter <= 24; iter++) {
    const at = time + 100 * iter;
    if (iter % 8 === 0) {
      const losses = { "train/loss": 3 - iter / 20, "val/loss": 3.1 - iter / 20 };
      lines.push({ event: "evaluate", time: at, iter, ...losses, "time/compute": 0.5, "time/data": 0.1 });
      lines.push({ event: "text", time: at, iter, name: "sample", text: "a bad cab" });
      lines.push({ event: "checkpoint", time: at, iter, seconds: 0.01 });
    }
    const step = {
      loss: 3 - iter / 20,
      lr: 1e-3,
      grad_norm: 1.5,
      step_ms: 20,
      tokens_per_s: 3200,
      mfu: 0.3,
      rss_mb: 200,
    };
    lines.push({ event: "step", time: at, iter, ...step });
  }
  lines.push({ event: "end", time: time + 2500, iter: 25, reason: "finished" });
  return lines.map((line) => `${JSON.stringify(line)}\n`).join("");
}

export function metrics(folder: string): void {
  mkdirSync(join(folder, "out"));
  writeFileSync(
    join(folder, "out", "metrics.jsonl"),
    metricsText({ max_iters: 24, n_layer: 1, seed: 1, out_dir: "out" }),
  );
}

/** e/: an experiment of two trials, both finished. */
export function experiment(folder: string): void {
  const settings = {
    ...{ name: "e", base: { n_layer: 1, n_embd: 8 }, changes: {}, search: "grid", axes: { n_head: [1, 2] } },
    ...{ list: [], trials: 10, search_seed: 1, seeds: [1], jobs: 1, metric: "val/loss", goal: "min" },
  };
  const write = (path: string, value: unknown) =>
    writeFileSync(join(folder, "e", path), JSON.stringify(value, null, 1));
  for (const n_head of [1, 2]) {
    const run = join(`n_head=${n_head}`, "seed-1");
    mkdirSync(join(folder, "e", run), { recursive: true });
    const out_dir = join(folder, "e", run);
    const config = { ...trainDefaults, n_layer: 1, n_embd: 8, n_head, seed: 1, out_dir };
    write(join(run, "config.json"), config);
    write(join(run, "environment.json"), {
      date: DATE,
      versions: { package: "0.1.0", commit: null, node: "20", onnxruntime: "1.30", tfjs: "4.22" },
      hardware: { cpu: "x", cores: 2, memory_gb: 8, platform: "linux x64" },
      ...{ load: 0.5, seed: 1 },
    });
    write(join(run, "results.json"), {
      ...{
        format_version: 1,
        experiment: "e",
        trial: `n_head=${n_head}`,
        seed: 1,
        state: "finished",
        notes: [],
        date: DATE,
      },
      ...{ iter: 24, facts: { device: "cpu", parameters: 1000 } },
      metrics: { "val/loss": 2, "train/loss": 1.9, perplexity: 7.4, wall_s: 2.5, parameters: 1000 },
      history: { "val/loss": { iters: [0, 8, 16, 24], values: [3, 2.6, 2.2, 2] } },
    });
    writeFileSync(join(out_dir, "metrics.jsonl"), metricsText(config));
  }
  write("experiment.json", settings);
}

/** out/: a pipeline that was stopped during training. */
export function pipeline(folder: string): void {
  writeFileSync(join(folder, "text.txt"), TEXT);
  const out = join(folder, "out");
  dataset(join(out, "data"));
  const text = { bytes: TEXT.length, sha256: sha256(Buffer.from(TEXT)) };
  const mark = (path: string) => {
    const bytes = readFileSync(join(out, path));
    return [path, { bytes: bytes.length, sha256: sha256(bytes) }];
  };
  const record = (state: string, files: object, outputs: object, settings: object) => ({
    ...{ state, why: "it has not run yet", started: DATE, ended: DATE, seconds: 1.5 },
    ...{ commands: ["npx tsx train.ts"], inputs: { settings, files }, outputs, error: null },
  });
  writeFileSync(
    join(out, "optimize.json"),
    JSON.stringify({ found: { threads: 2, learning_rate: 0.001 }, seconds: 1 }),
  );
  const data = ["train.bin", "val.bin", "meta.json"].map((name) => mark(join("data", name)));
  const [process_, optimize, train] = STAGES;
  const stages = {
    [process_]: record("done", { "the text": text }, Object.fromEntries(data), { tokenizer: "characters" }),
    [optimize]: record("done", {}, Object.fromEntries([mark("optimize.json")]), { optimize_seconds: 60 }),
    [train]: record("stopped", Object.fromEntries(data), {}, { n_layer: 1 }),
  };
  const given = {
    input_file: { value: "text.txt", from: "flag" },
    n_layer: { value: 1, from: "flag" },
    block_size: { value: 16, from: "flag" },
    max_iters: { value: 20, from: "flag" },
  };
  writeFileSync(
    join(out, "pipeline.json"),
    JSON.stringify({ format_version: 1, given, config_file: null, stages }, null, 2),
  );
}

// ---- texts and the rest ----

export const YAML = `# a file that another one extends
n_layer: 2
n_head: &heads 4
n_embd: 32 # wide
learning_rate: 1e-3
out_dir: "out-yaml"
start: |
  two
  lines
stop: [a, b]
batch_size: 8
`;

export const SEARCH = `name: search
base: { n_layer: 1, n_embd: 8, n_head: 2 }
changes: { max_iters: 10 }
search: random
axes:
  learning_rate: { log_uniform: [0.0001, 0.01] }
  dropout: { uniform: [0, 0.5] }
  n_head: { choice: [1, 2, 4] }
trials: 4
search_seed: 3
seeds: [1, 2]
`;

/** MLflow's answers to all requests. */
export const ANSWER = {
  experiment: { experiment_id: "0", name: "Default" },
  experiment_id: "0",
  run: {
    info: { run_id: "0123456789abcdef", artifact_uri: "mlflow-artifacts:/0/0123456789abcdef/artifacts" },
    data: { params: [{ key: "n_layer", value: "1" }] },
  },
};

/** A folder of documents of all kinds. */
export function documents(folder: string): void {
  writeFileSync(join(folder, "text.txt"), TEXT);
  copyFixture("documents.jsonl", join(folder, "lines.jsonl"));
  const rows = Array.from({ length: 40 }, (_, i) => ({ id: i, text: `row ${i}, "quoted"\n${"words ".repeat(i)}` }));
  writeFileSync(join(folder, "list.json"), JSON.stringify(rows, null, 1));
  const quoted = rows.map(({ id, text }) => `${id},"${text.replaceAll('"', '""')}"\n`);
  writeFileSync(join(folder, "table.csv"), ["id,text\n", ...quoted].join(""));
  copyFixture("documents_pages_dictionary.parquet", join(folder, "pages.parquet"));
  for (const codec of ["snappy", "zstd", "gzip", "none"]) {
    copyFixture(`documents_${codec}.parquet`, join(folder, `${codec}.parquet`));
  }
}

function copyFixture(name: string, to: string): void {
  copyFileSync(join(ROOT, "tests", "fixtures", name), to);
}

export const PARTIAL = { files: ["a.txt"], seed: 1 };

/** A dataset whose preparation was interrupted. */
export function partial(folder: string): void {
  dataset(folder);
  const unfinished = new PartialDataset(folder, PARTIAL, true);
  unfinished.append("train", Uint16Array.of(1, 2, 3, 4));
  unfinished.append("val", Uint16Array.of(5, 6));
  unfinished.save({ file: 0, at: 20, documents: 2, val_documents: 1, tally: noTally() });
  unfinished.close();
}

/** The lock of a dead process. */
export function locked(folder: string): void {
  const holder = { pid: 2 ** 22 + 1, host: hostname(), began: "1", what: "training" };
  writeFileSync(join(folder, "lock.json"), JSON.stringify(holder));
}

export function benchReport(folder: string): void {
  const report = {
    ...{ name: "sampling", date: DATE, versions: { node: "20", commit: null } },
    hardware: { cpu: "x", cores: 2, memory_gb: 8, platform: "linux x64" },
    ...{ settings: { n_layer: 1 }, facts: { params: 1 } },
    metrics: [{ name: "step_ms", value: 2.5, unit: "ms", better: "lower", samples: [2.4, 2.6] }],
  };
  writeFileSync(join(folder, "before.json"), JSON.stringify(report));
}
