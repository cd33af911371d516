// Plots of a run, or of several in one picture, from their metrics.jsonl; of attention, from the checkpoint.
//
//   npx tsx tools/plot.ts --out_dir=out-shakespeare-char                   # everything available, as SVG and PNG
//   npx tsx tools/plot.ts --out_dir=out-a,out-b --kind=training_curves --to=curves.svg
//   npx tsx tools/plot.ts --out_dir=out-a --kind=attention --start="O Romeo" --layer=0
//
// They go to visualizations/ in the first run's folder. lib/monitor/plots.ts draws each kind.

import { extname } from "node:path";
import { runScript, sourceOf } from "../configurator.ts";
import { writeFileAtomic } from "../lib/common/atomic.ts";
import { explain, UserError } from "../lib/common/errors.ts";
import { namedFolders, runName } from "../lib/common/file_names.ts";
import { didYouMean } from "../lib/common/nearest.ts";
import type { Format } from "../lib/monitor/draw.ts";
import { readHistory } from "../lib/monitor/metrics_file.ts";
import type { NamedRun } from "../lib/monitor/plots.ts";
import { choice, show } from "../lib/settings/show.ts";

export const defaults = {
  out_dir: ["out"], // a run's folder, or several, separated by commas (\, is one in a name): they share a picture
  kind: "all", // training_curves, learning_rate, throughput, time_split, comparison (lowest validation losses), attention, or all but the last
  formats: ["svg", "png"], // what to write
  to: "", // a file for one picture, in the format of its extension; if empty they get names in the first run's visualizations/
  // attention
  start: "\n", // the text that the model reads, by default a line break if the vocabulary has one
  layer: 0, // of the model, the first being 0
};
type Config = Readonly<typeof defaults>;

/** The kinds plotted from histories: the metrics they need, and the picture. */
const KINDS = ["training_curves", "learning_rate", "throughput", "time_split", "comparison"] as const;
type Kind = (typeof KINDS)[number];
const NEEDS: Record<Kind, string[]> = {
  training_curves: ["loss", "train/loss", "val/loss"],
  learning_rate: ["lr"],
  throughput: ["tokens_per_s"],
  time_split: ["time/compute"],
  comparison: ["val/loss"],
};

/**
 * Write the pictures that `config` names.
 * @throws UserError for runs without the figures that a picture needs
 */
export async function run(config: Config): Promise<void> {
  const { kind, to } = config;
  const folders = namedFolders(config.out_dir);
  const known = [...KINDS, "attention", "all"];
  if (!known.includes(kind)) {
    const near = didYouMean(kind, known, show);
    throw new UserError(`--kind must be ${choice(known)}, got ${show(kind)}${near ? `; ${near}` : ""}`);
  }
  if (folders.length === 0) throw new UserError("--out_dir names no run");
  const wrong = config.formats.find((format) => !isFormat(format));
  if (wrong !== undefined || config.formats.length === 0) {
    throw new UserError(`--formats must be svg, png or both, got ${JSON.stringify(wrong ?? "")}`);
  }
  const file = to === "" ? undefined : to;
  if (file !== undefined && !isFormat(extname(file).slice(1))) {
    throw new UserError(`--to=${file} must end in .svg or .png`);
  }
  if (file !== undefined && kind === "all") throw new UserError("--to takes one picture; say which with --kind");

  const pictures = kind === "attention" ? await attention(folders, config) : await ofHistories(folders, kind);
  const { encode, writePlot } = await import("../lib/monitor/draw.ts");
  const formats = config.formats as Format[];
  const date = new Date();
  for (const [name, svg] of pictures) {
    if (file === undefined) {
      for (const path of await writePlot(folders[0]!, name, svg, { formats, date })) console.log(`wrote ${path}`);
      continue;
    }
    const bytes = await encode(svg, extname(file).slice(1) as Format);
    try {
      writeFileAtomic(file, bytes);
    } catch (error) {
      throw explain(error, `can't write --to=${file}`);
    }
    console.log(`wrote ${file}`);
  }
}

function isFormat(format: string): format is Format {
  return format === "svg" || format === "png";
}

/** All wanted kinds that the runs have metrics for, by name. */
async function ofHistories(folders: string[], kind: string): Promise<[name: string, svg: string][]> {
  const names = folders.map(runName);
  const runs = folders.map((folder, i): NamedRun => {
    const isUnique = names.filter((name) => name === names[i]).length === 1;
    return { name: isUnique ? names[i]! : folder, history: readHistory(folder) };
  });
  const plots = await import("../lib/monitor/plots.ts"); // takes half a second: after all checks
  const draw: Record<Kind, () => string> = {
    training_curves: () => plots.plotTrainingCurves(runs),
    learning_rate: () => plots.plotLearningRate(runs),
    throughput: () => plots.plotThroughput(runs),
    time_split: () => plots.plotTimeSplit(runs),
    comparison: () =>
      plots.plotComparison(runs.map(lowest), { unit: "lowest validation loss (nats per token)", better: "lower" }),
  };
  const pictures: [string, string][] = [];
  for (const name of KINDS) {
    if (kind !== "all" && kind !== name) continue;
    const lacking = runs.filter(({ history }) => !NEEDS[name].some((metric) => history.series.has(metric)));
    if (lacking.length < runs.length && !(kind === "all" && name === "comparison" && runs.length === 1)) {
      pictures.push([name, draw[name]()]);
    } else if (kind === name) {
      throw new UserError(`nothing to draw as ${name}: no ${NEEDS[name].join(", ")} in ${folders.join(", ")} yet`);
    }
  }
  if (pictures.length === 0) throw new UserError(`nothing to draw: no steps in ${folders.join(", ")} yet`);
  return pictures;
}

function lowest({ name, history }: NamedRun): { label: string; mean: number } {
  const values = (history.series.get("val/loss")?.values ?? []).filter(Number.isFinite);
  return { label: name, mean: values.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY) };
}

/** The attention weights of a layer of the checkpoint's model for a text. */
async function attention(folders: string[], config: Config): Promise<[name: string, svg: string][]> {
  const { layer } = config;
  const [folder] = folders;
  if (folders.length > 1) throw new UserError(`attention is of one model; name one --out_dir, not ${folders.length}`);
  const { checkArchitecture, openModel } = await import("../lib/formats/pretrained.ts");
  const opened = await openModel("resume", folder!);
  checkArchitecture(opened, "an attention map", "decoder", "encoder");
  const { n_layer, block_size } = opened.modelArgs;
  if (!Number.isInteger(layer) || layer < 0 || layer >= n_layer) {
    throw new UserError(`--layer must be an integer from 0 to ${n_layer - 1} (the model in ${folder}), got ${layer}`);
  }
  const tokenizer = await opened.tokenizer();
  const { defaultStart, readStart } = await import("../lib/decoding/start.ts");
  const reading = { keep_crlf: false, log: console.error };
  const start = sourceOf(config, "start") ? await readStart(config.start, reading) : defaultStart(tokenizer);
  const ids = tokenizer.encode(start, { special: true });
  const { MOST_TOKENS, plotAttention } = await import("../lib/monitor/plots.ts");
  const most = Math.min(block_size, MOST_TOKENS);
  if (ids.length === 0 || ids.length > most) {
    const why = block_size < MOST_TOKENS ? "the model reads no more" : "a picture shows no more";
    throw new UserError(`--start must be 1 to ${most} tokens (${why}), got ${ids.length}`);
  }
  const { GPT } = await import("../model.ts");
  const { useEagerBackend } = await import("../lib/engine/runtime/device.ts");
  const { attentionMaps } = await import("./plot/attention_maps.ts");
  const model = new GPT(opened.modelArgs);
  await opened.read(model);
  opened.close();
  await useEagerBackend();
  const weights = attentionMaps(model, ids)[layer]!;
  const tokens = ids.map((id) => tokenizer.decode([id]));
  return [["attention", plotAttention({ tokens, weights, layer })]];
}

await runScript(import.meta.url, defaults, run, { usage: "Plot runs." });
