// The kinds of files that this project reads: an intact sample, the files to damage, and the reader. Readers are the scripts themselves if they
// end soon, else the functions that they call.

import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { defaults as benchDefaults } from "../../bench.ts";
import { configure } from "../../configurator.ts";
import type { Ended } from "../../lib/common/child.ts";
import { main } from "../../lib/common/errors.ts";
import { lock } from "../../lib/common/lock.ts";
import { readText } from "../../lib/common/read_file.ts";
import { ROOT } from "../../lib/common/scripts.ts";
import { checkTraining } from "../../lib/formats/model_memory.ts";
import { openModel } from "../../lib/formats/pretrained.ts";
import type { Run } from "../../lib/monitor/callback.ts";
import type { Settings } from "../../lib/settings/rules.ts";
import { piecesOf, READING, readPiece } from "../../lib/text/documents.ts";
import { listFiles } from "../../lib/text/input_files.ts";
import { openDataset } from "../../lib/text/open_dataset.ts";
import { PartialDataset } from "../../lib/text/partial_dataset.ts";
import { sampleBatch } from "../../lib/text/token_file.ts";
import { createTokenizer } from "../../lib/text/tokenizer.ts";
import { GPT, type GPTConfig } from "../../model.ts";
import { defaults as sampleDefaults } from "../../sample.ts";
import { type TrainConfig, defaults as trainDefaults } from "../../train.ts";
import { defaults as evaluateDefaults } from "../evaluate.ts";
import { ExperimentConfig } from "../experiment/experiment_config.ts";
import { checkFolder, planRuns } from "../experiment/run_folder.ts";
import { defaults as exportDefaults } from "../export.ts";
import { RunSet } from "../monitor/run_set.ts";
import { drawRuns } from "../monitor/terminal_view.ts";
import type { Chance } from "./chance.ts";
import { anyValue, type Format } from "./mutate.ts";
import { captured, runHere } from "./run_here.ts";
import * as samples from "./samples.ts";

export interface Kind {
  /** Write an intact sample into an empty folder. */
  make(folder: string): void | Promise<void>;
  /** Its files to damage, one per case, and their formats. */
  files: Record<string, Format>;
  /** Read it like the scripts. */
  read(folder: string, chance: Chance): Promise<Ended>;
}

/** The settings of scripts. */
const SCRIPTS = {
  "train.ts": trainDefaults,
  "sample.ts": sampleDefaults,
  "bench.ts": benchDefaults,
  "tools/evaluate.ts": evaluateDefaults,
  "tools/export.ts": exportDefaults,
} satisfies Record<string, Settings>;
type Script = keyof typeof SCRIPTS;

/** Run a body like a script. */
const body = (run: () => void | Promise<void>) => captured(() => main(async () => run()));

/** One of these command lines, in the sample's folder. */
const scripts =
  (...lines: [script: string, ...args: string[]][]) =>
  (folder: string, chance: Chance) => {
    const [script, ...args] = chance.pick(lines);
    return runHere(script, args, folder);
  };

async function readModel(folder: string): Promise<void> {
  const opened = await openModel(folder, "", { log: console.error });
  try {
    const model = new GPT(opened.modelArgs);
    await opened.read(model);
    if (!opened.tokenizerMeta) return;
    const tokenizer = await opened.tokenizer();
    tokenizer.decode([0, 1, 70_000]);
  } finally {
    opened.close();
  }
}

/** A folder that is opened as a model. */
const modelFolder = (make: Kind["make"], files: Kind["files"]): Kind => ({
  make,
  files,
  read: (folder) => body(() => readModel(folder)),
});

export const kinds: Record<string, Kind> = {
  checkpoint: {
    make: samples.checkpoint,
    files: { "out/ckpt.json": "json", "data/meta.json": "json" },
    read: scripts(
      ["sample.ts", "--max_new_tokens=2", "--num_samples=1", "--threads=1", "--device=cpu", "--start=a"],
      ["sample.ts", "--max_new_tokens=2", "--num_samples=1", "--compile=false", "--start=b"],
      ["train.ts", "--init_from=resume", "--dataset=./data", "--eval_only=true", "--eval_iters=1", "--threads=1"],
      ["tools/evaluate.ts", "--dataset=./data", "--threads=1", "--max_tokens=20"],
      ["tools/export.ts", "--to=exported", "--format=hf"],
      ["tools/plot.ts", "--kind=attention", "--start=ab", "--formats=svg"],
    ),
  },

  // a changed file of weights gets the matching checksum, so that the code after its check is reached
  weights: {
    make: samples.checkpoint,
    files: { "out/weights.safetensors": "bytes" },
    read: (folder) =>
      body(() => {
        samples.refreshChecksum(join(folder, "out"));
        return readModel(join(folder, "out"));
      }),
  },

  callbacks: {
    make: samples.checkpoint,
    files: { "out/callbacks.json": "json" },
    async read(folder) {
      const { stability } = await import("../../lib/monitor/stability.ts");
      const { earlyStop } = await import("../../lib/monitor/early_stop.ts");
      const { samples: sampled } = await import("../../lib/monitor/samples.ts");
      const { Watch } = await import("../../lib/monitor/watch.ts");
      const { readMetadata } = await import("../../lib/training/checkpoint.ts");
      return body(() => {
        samples.putCallbacks(join(folder, "out"));
        const stable = stability({ lr_patience: 1, lr_factor: 0.5, spike_threshold: 3, rollback: true });
        const watch = new Watch([stable, earlyStop({ patience: 2 }), sampled({ interval: 1 })], console.error);
        watch.restore(readMetadata(join(folder, "out")).callbacks ?? {});
      });
    },
  },

  dataset: {
    make: samples.checkpoint,
    files: { "data/meta.json": "json", "data/train.bin": "bytes", "data/val.bin": "bytes" },
    read: (folder) =>
      body(async () => {
        const { meta, splits } = openDataset(join(folder, "data"));
        const [x, y] = [new Int32Array(16), new Int32Array(16)];
        for (const file of Object.values(splits)) {
          sampleBatch(file, { B: 2, T: 8 }, (row) => row / 3, x, y);
          file.close();
        }
        if (meta) (await createTokenizer(meta)).decode(x);
      }),
  },

  huggingface: modelFolder((folder) => samples.huggingface(folder, "gpt2"), {
    "config.json": "json",
    "model.safetensors": "bytes",
    "meta.json": "json",
  }),
  llama: modelFolder((folder) => samples.huggingface(folder, "llama"), {
    "config.json": "json",
    "model.safetensors": "bytes",
  }),
  shards: modelFolder(samples.shards, {
    "model.safetensors.index.json": "json",
    "one.safetensors": "bytes",
    "config.json": "json",
  }),
  tokenizer: modelFolder(samples.foreignTokenizer, { "vocab.json": "json", "tokenizer.json": "json" }),
  nanogpt: modelFolder(samples.nanogpt, {
    "model_args.json": "json",
    "model.safetensors": "bytes",
    "meta.json": "json",
  }),
  exported: {
    make: samples.exported,
    files: { "exported/export.json": "json", "exported/config.json": "json" },
    read: scripts(["tools/export.ts", "--to=exported", "--format=hf"]),
  },

  metrics: {
    make: samples.metrics,
    files: { "out/metrics.jsonl": "jsonl" },
    read: (folder, chance) => {
      if (chance.is(0.3)) return runHere("tools/plot.ts", ["--out_dir=out", "--formats=svg"], folder);
      if (chance.is(0.3)) return runHere("tools/experiment.ts", ["compare", "out", "out"], folder);
      return body(() => watchRuns(join(folder, "out")));
    },
  },

  experiment: {
    make: samples.experiment,
    files: {
      "e/experiment.json": "json",
      "e/n_head=1/seed-1/config.json": "json",
      "e/n_head=1/seed-1/environment.json": "json",
      "e/n_head=1/seed-1/results.json": "json",
      "e/n_head=1/seed-1/metrics.jsonl": "jsonl",
    },
    async read(folder, chance) {
      if (chance.is(0.5)) {
        return body(async () => {
          const experiment = await ExperimentConfig.load(join(folder, "e", "experiment.json"));
          checkFolder(join(folder, "e"), experiment, await planRuns(experiment, join(folder, "e")));
          watchRuns(folder);
        });
      }
      const lines = [
        ["list", "e"],
        ["compare", "e"],
        ["compare", join("e", "n_head=1"), join("e", "n_head=2")],
        ["report", "e", "--to=report.md"],
      ];
      return runHere("tools/experiment.ts", chance.pick(lines), folder);
    },
  },

  pipeline: {
    make: samples.pipeline,
    files: { "out/pipeline.json": "json", "out/optimize.json": "json", "text.txt": "text" },
    read: scripts(
      ["tools/pipeline.ts", "--out_dir=out", "--resume=true", "--dry_run=true"],
      ["tools/pipeline.ts", "--out_dir=out", "--from=train", "--dry_run=true"],
    ),
  },

  config: {
    make(folder) {
      const settings = {
        extends: "base.yaml",
        n_layer: 4,
        out_dir: "x",
        bias: false,
        callbacks: ["a.ts"],
        dropout: 0.1,
      };
      writeFileSync(join(folder, "mine.json"), JSON.stringify(settings, null, 1));
      writeFileSync(join(folder, "base.yaml"), samples.YAML);
    },
    files: { "mine.json": "json", "base.yaml": "text" },
    read: (folder) => body(() => readConfig([join(folder, "mine.json")], {}, "train.ts")),
  },

  flags: {
    make: () => {},
    files: {},
    read(_, chance) {
      const script = chance.pick(Object.keys(SCRIPTS) as Script[]);
      const keys = Object.keys(SCRIPTS[script]);
      const argv: string[] = [];
      const env: Record<string, string> = {};
      for (let i = 0; i <= chance.below(3); i++) {
        const [key, value] = [chance.pick(keys), anyValue(chance)];
        if (chance.is(0.3)) env[`NANOGPT_${key.toUpperCase()}`] = value;
        else if (!value.includes("\0"))
          argv.push(chance.pick([`--${key}=${value}`, `--${key}`, `--no-${key}`, `--${key}x`, value]));
      }
      return body(() => readConfig(argv, env, script));
    },
  },

  documents: {
    make: samples.documents,
    files: {
      "text.txt": "text",
      "lines.jsonl": "jsonl",
      "list.json": "json",
      "table.csv": "text",
      "pages.parquet": "bytes",
      "snappy.parquet": "bytes",
      "zstd.parquet": "bytes",
      "gzip.parquet": "bytes",
      "none.parquet": "bytes",
    },
    read: (folder) =>
      body(async () => {
        for (const file of listFiles([folder])) {
          const field = file.path.endsWith("pages.parquet") ? "body" : "text";
          const reading = { ...READING, field, separator: "night", skip_bad: file.kind !== ".jsonl" };
          for await (const piece of piecesOf(file, reading, 0, 2000)) for await (const _ of readPiece(piece, reading));
        }
      }),
  },

  partial: {
    make: samples.partial,
    files: { "meta.json.partial": "json", "train.bin.partial": "bytes", "meta.json": "json" },
    read: (folder) => body(() => new PartialDataset(folder, samples.PARTIAL, false).close()),
  },

  pairs: {
    make: (folder) => writeFileSync(join(folder, "pairs.txt"), "a b\tb a\nc d e\te d c\n".repeat(60)),
    files: { "pairs.txt": "text" },
    read: scripts(["data/pairs/prepare.ts", "--input=pairs.txt", "--out=made"]),
  },
  text: {
    make: (folder) => writeFileSync(join(folder, "text.txt"), samples.TEXT),
    files: { "text.txt": "text" },
    read: scripts(["data/shakespeare_char/prepare.ts", "--input=text.txt", "--out=made"]),
  },

  prompt: {
    async make(folder) {
      await samples.checkpoint(folder);
      writeFileSync(join(folder, "prompt.txt"), "a bad cab\n");
    },
    files: { "prompt.txt": "text" },
    read: scripts(
      ["sample.ts", "--start=FILE:prompt.txt", "--max_new_tokens=1", "--num_samples=1", "--threads=1"],
      ["sample.ts", "--evaluate=prompt.txt", "--threads=1"],
      ["tools/evaluate.ts", "--evaluate=prompt.txt", "--threads=1"],
    ),
  },

  experiment_file: {
    make: (folder) => writeFileSync(join(folder, "search.yaml"), samples.SEARCH),
    files: { "search.yaml": "text" },
    read: (folder) =>
      body(async () => {
        const experiment = await ExperimentConfig.load(join(folder, "search.yaml"));
        await planRuns(experiment, join(folder, "e"));
      }),
  },

  tracker: {
    make: (folder) => writeFileSync(join(folder, "answer.json"), JSON.stringify(samples.ANSWER)),
    files: { "answer.json": "json" },
    read: (folder, chance) => body(() => askTracker(join(folder, "answer.json"), chance)),
  },

  lock: {
    make: samples.locked,
    files: { "lock.json": "json" },
    read: (folder) => body(() => lock(folder, "fuzzing")()),
  },

  report: {
    make: samples.benchReport,
    files: { "before.json": "json" },
    async read(folder) {
      const { readReport } = await import("../../lib/bench/report.ts");
      return body(() => void readReport(join(folder, "before.json")));
    },
  },
};

/** An MLflow server that always gives this answer. */
async function askTracker(path: string, chance: Chance): Promise<void> {
  const { checkMlflow, mlflow } = await import("../../lib/monitor/mlflow.ts");
  const { Watch } = await import("../../lib/monitor/watch.ts");
  const status = chance.pick([200, 200, 200, 404, 500]);
  const text = readText(path, { most: 1e6 }) ?? "";
  const server = createServer((_, response) => response.writeHead(status).end(text)).listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    const uri = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    await checkMlflow(uri);
    const watch = new Watch([mlflow({ uri, experiment: "owt", patience: 2000 })], console.error);
    const run = { name: "out", outDir: dirname(path), config: { n_layer: 1 }, log: console.error };
    await watch.onTrainStart(run as unknown as Run);
    await watch.onStep({ iter: 0, metrics: { loss: 1 }, gradScale: 1, histograms: new Map() });
    await watch.onTrainEnd({ iter: 1, reason: "finished" });
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

/** The settings of a script, and whether a model of them can be made. */
async function readConfig(argv: string[], env: Record<string, string>, script: Script): Promise<void> {
  const url = pathToFileURL(join(ROOT, script)).href;
  const config = await configure(url, SCRIPTS[script] as Settings, { argv, env, log: () => {} });
  if (script !== "train.ts") return;
  const model = { ...(config as unknown as TrainConfig), vocab_size: 65 };
  checkTraining(model as GPTConfig, config as unknown as TrainConfig);
}

/** tools/monitor.ts' view of a folder. */
function watchRuns(folder: string): void {
  const runs = new RunSet([folder]);
  runs.poll();
  const now = Date.now();
  const drawn = runs.shown.map(({ label, place, run }) => ({
    label,
    place,
    history: run.history,
    status: run.status(now),
  }));
  for (const color of [false, true]) {
    const lines = drawRuns(
      drawn,
      { columns: 100, rows: 40, color, now },
      { others: runs.others, progress: runs.progress },
    );
    if (!color) for (const line of lines) console.error(line);
  }
}
