// What a run came to, from the metrics.jsonl in its folder: final metrics and a history that is short enough to be kept
// in results.json, which also says that the run is complete.

import { join } from "node:path";
import { jsonIf, readText } from "../../lib/common/read_file.ts";
import { median } from "../../lib/common/statistics.ts";
import { z } from "../../lib/common/zod.ts";
import { History, type MetricsEvent, MetricsReader, type Series } from "../../lib/monitor/metrics_file.ts";

export const RESULTS_FILE = "results.json";

const POINTS = 500; // kept of a metric that every step has

const numbers = z.array(z.nullable(z.number())); // null: NaN or infinite
const Results = z.object({
  format_version: z.literal(1),
  experiment: z.string(),
  trial: z.string(),
  seed: z.int(),
  state: z.enum(["finished", "failed"]),
  error: z.exactOptional(z.string()), // of a failed run
  notes: z.array(z.string()), // what could not be measured, and why
  date: z.string(), // when it ended: ISO 8601, UTC
  iter: z.int(), // of the last evaluation
  facts: z.record(z.string(), z.union([z.string(), z.number()])), // device, threads, parameters, ...
  metrics: z.record(z.string(), z.nullable(z.number())),
  history: z.record(z.string(), z.object({ iters: z.array(z.int()), values: numbers })),
});
export type Results = z.infer<typeof Results>;

/** What a metric of `finalMetrics` is called and measured in, for people. Others are called by their name. */
export const METRICS: Record<string, { title: string; digits: number; better?: "min" | "max" }> = {
  "val/loss": { title: "validation loss", digits: 4, better: "min" },
  "train/loss": { title: "training loss", digits: 4, better: "min" },
  perplexity: { title: "perplexity", digits: 3, better: "min" },
  "best/val/loss": { title: "lowest validation loss", digits: 4, better: "min" },
  wall_s: { title: "time, s", digits: 1, better: "min" },
  peak_rss_mb: { title: "memory, MB", digits: 0, better: "min" },
  parameters: { title: "parameters", digits: 0 },
  train_tokens_per_s: { title: "training, tokens/s", digits: 0, better: "max" },
  inference_tokens_per_s: { title: "sampling, tokens/s", digits: 0, better: "max" },
};

/** A run's metrics.jsonl, read once. */
export interface Told {
  history: History;
  events: MetricsEvent[];
}

/** What metrics.jsonl tells of a run; undefined where none has begun in the folder. */
export function readRun(folder: string): Told | undefined {
  const events = new MetricsReader(folder).read();
  const history = new History().add(events);
  return history.start ? { history, events } : undefined;
}

/** The figures of a run that has ended; losses and perplexity are those of the last evaluation. */
export function finalMetrics({ history, events }: Told): Record<string, number | null> {
  const lowest = history.series.get("val/loss")?.values.filter(Number.isFinite) ?? [];
  const val = history.last("val/loss");
  const parameters = Number(history.start?.facts.parameters);
  const metrics: Record<string, number | undefined> = {
    "val/loss": val,
    "train/loss": history.last("train/loss"),
    perplexity: val === undefined ? undefined : Math.exp(val),
    "best/val/loss": lowest.length > 0 ? smallest(lowest) : undefined,
    wall_s: wallSeconds(events),
    peak_rss_mb: largest(history.series.get("rss_mb")),
    parameters: Number.isFinite(parameters) ? parameters : undefined,
    train_tokens_per_s: median(history.series.get("tokens_per_s")?.values ?? []),
  };
  return Object.fromEntries(
    Object.entries(metrics).flatMap(([name, value]) =>
      value === undefined ? [] : [[name, Number.isFinite(value) ? Number(value.toPrecision(7)) : null]],
    ),
  );
}

/** Seconds from start to end, evaluations and checkpoints included; those of all sessions of a run that was resumed. */
export function wallSeconds(events: readonly MetricsEvent[]): number {
  let total = 0;
  let start = 0;
  let last = 0;
  for (const { event, time, ...rest } of events) {
    if (event === "start") {
      total = "resumed" in rest && rest.resumed ? total + last - start : 0;
      start = time;
    }
    last = time;
  }
  return (total + last - start) / 1000;
}

/** Not Math.min(...values): a long run has more values than a call may have arguments. */
function smallest(values: readonly number[]): number {
  return values.reduce((least, value) => Math.min(least, value), Number.POSITIVE_INFINITY);
}

function largest(series: Series | undefined): number | undefined {
  return series?.values.reduce((most, value) => (value > most ? value : most), Number.NEGATIVE_INFINITY);
}

/** Every series, with at most POINTS points: evenly spaced, and the last. Evaluations are few, and stay. */
export function thinned(history: History): Results["history"] {
  return Object.fromEntries(
    [...history.series].map(([name, { iters, values }]) => {
      const every = Math.ceil(iters.length / POINTS);
      const kept = iters.flatMap((_, i) => (i % every === 0 || i === iters.length - 1 ? [i] : []));
      const finite = (value: number) => (Number.isFinite(value) ? value : null);
      return [name, { iters: kept.map((i) => iters[i]!), values: kept.map((i) => finite(values[i]!)) }];
    }),
  );
}

/** Series as they were before they were written. */
export function historyOf(results: Pick<Results, "history">): History {
  const history = new History();
  for (const [name, { iters, values }] of Object.entries(results.history)) {
    history.series.set(name, { iters, values: values.map((value) => value ?? Number.NaN) });
    history.iter = Math.max(history.iter, iters.at(-1) ?? 0);
  }
  return history;
}

/** The results.json of a folder; undefined if there is none, or an incomplete one. */
export function readResults(folder: string): Results | undefined {
  return jsonIf(readText(join(folder, RESULTS_FILE)), Results); // a run that isn't complete is made again
}
