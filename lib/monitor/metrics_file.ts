// metrics.jsonl, a run's metrics in its out_dir: one line of JSON per event, append-only, so that a kill costs at most the line it
// cuts. Everything that shows a run reads this file: plots, the monitor, reports, pandas.
//
//   {"event":"start","time":1764000000000,"iter":0,"resumed":false,"name":"out-a","pid":12,"config":{...},"facts":{...}}
//   {"event":"step","time":...,"iter":0,"loss":4.17,"lr":0.00001,"grad_norm":1.9,"step_ms":21.4,"tokens_per_s":35900}
//   {"event":"evaluate","time":...,"iter":250,"train/loss":2.4,"val/loss":2.5}
//   {"event":"text","time":...,"iter":250,"name":"sample","text":"..."}
//   {"event":"checkpoint","time":...,"iter":250,"seconds":0.02}
//   {"event":"end","time":...,"iter":2001,"reason":"finished"}
//
// `time` is in milliseconds since 1970. A number that JSON has no word for (NaN, infinity) is null. Steps repeat after a run
// was resumed or rolled back: the later ones count.

import { closeSync, readSync } from "node:fs";
import { join } from "node:path";
import { AppendFile } from "../common/append_file.ts";
import { explain, UserError } from "../common/errors.ts";
import { openFile } from "../common/read_file.ts";
import { z } from "../common/zod.ts";
import { currentSettings } from "../settings/renamed.ts";
import type { Callback, Metrics } from "./callback.ts";

export const METRICS_FILE = "metrics.jsonl";

const MOST_BYTES = 2 ** 30; // that are read at once
const MOST_NAMES = 2000; // of metrics in a run: one with statistics of each layer has hundreds
const DIGITS = 7; // significant digits of a number, as a float32 has

const when = { time: z.number(), iter: z.int().check(z.nonnegative()) };
const Events = {
  start: z.object({
    ...{
      event: z.literal("start"),
      ...when,
      resumed: z.boolean(),
      name: z.string(),
      pid: z.int().check(z.gte(1), z.lte(2 ** 31 - 1)),
    },
    config: z.pipe(z.record(z.string(), z.unknown()), z.transform(currentSettings)),
    facts: z.record(z.string(), z.union([z.string(), z.number()])),
  }),
  text: z.object({ event: z.literal("text"), ...when, name: z.string(), text: z.string() }),
  checkpoint: z.object({ event: z.literal("checkpoint"), ...when, seconds: z.number() }),
  end: z.object({
    ...{ event: z.literal("end"), ...when, reason: z.string(), why: z.exactOptional(z.string()) },
    diverged: z.exactOptional(z.literal(true)),
  }),
};
/** Not a schema: a long run has a million of them. */
type Numbers = { event: "step" | "evaluate"; time: number; iter: number } & Record<string, unknown>;
export type MetricsEvent = Numbers | z.infer<(typeof Events)[keyof typeof Events]>;

/** Writes the file. */
export function metricsFile(): Callback {
  let file: AppendFile;

  function write(event: string, iter: number, fields: Record<string, unknown>, restore = true): void {
    const line = JSON.stringify({ event, time: Date.now(), iter, ...fields }, (_, value) =>
      typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(DIGITS)) : value,
    );
    file.write(`${line}\n`, restore);
  }

  return {
    name: "metrics",
    onError: "continue",
    onTrainStart({ outDir, name, config, facts, startIter, resumed }) {
      file = new AppendFile(join(outDir, METRICS_FILE));
      if (file.isCut) file.write("\n"); // this run's first line must not be glued to it
      write("start", startIter, { resumed, name, pid: process.pid, config, facts });
    },
    onStep: ({ iter, metrics }) => write("step", iter, metrics),
    onEvaluate({ iter, metrics, texts }) {
      write("evaluate", iter, metrics);
      for (const [name, text] of texts) write("text", iter, { name, text });
    },
    onCheckpoint: ({ iter, seconds }) => write("checkpoint", iter, { seconds }),
    onTrainEnd({ iter, reason, why, diverged }) {
      write("end", iter, { reason, why, diverged }, reason !== "failed"); // it may have failed because another process has the folder now
      file.close();
    },
  };
}

/** Reads a file as it grows. */
export class MetricsReader {
  readonly #path: string;
  #offset = 0;
  #rest: Buffer = Buffer.alloc(0); // of an incomplete line
  /** Lines so far that could not be read: cut by a kill, or not an event. */
  broken = 0;

  /** @param outDir a run's folder */
  constructor(outDir: string) {
    this.#path = join(outDir, METRICS_FILE);
  }

  /**
   * The events added since the last call; none if there is no file yet.
   * @throws UserError if it can't be read
   */
  read(): MetricsEvent[] {
    const bytes = this.#readBytes();
    const end = bytes.lastIndexOf(0x0a) + 1;
    this.#rest = bytes.subarray(end);
    const events: MetricsEvent[] = [];
    for (const line of bytes.toString("utf8", 0, end).split("\n")) {
      if (line === "") continue;
      const event = parse(line);
      if (event) events.push(event);
      else this.broken++;
    }
    return events;
  }

  #readBytes(): Buffer {
    const opened = openFile(this.#path);
    if (!opened) return this.#rest;
    const { file, stat } = opened;
    try {
      const { size } = stat;
      if (size - this.#offset > MOST_BYTES) throw new UserError(`${this.#path} has more than 1 GB; it isn't a run's`);
      if (size < this.#offset) [this.#offset, this.#rest] = [0, Buffer.alloc(0)]; // another file now
      const bytes = Buffer.alloc(this.#rest.length + size - this.#offset);
      this.#rest.copy(bytes);
      let filled = this.#rest.length;
      for (let got = 1; got > 0 && filled < bytes.length; filled += got, this.#offset += got) {
        got = readSync(file, bytes, filled, bytes.length - filled, this.#offset);
      }
      return bytes.subarray(0, filled);
    } catch (error) {
      throw explain(error, `can't read ${this.#path}`);
    } finally {
      closeSync(file);
    }
  }
}

function parse(line: string): MetricsEvent | undefined {
  let json: unknown;
  try {
    json = JSON.parse(line);
  } catch {
    return undefined;
  }
  const { event, time, iter } = (json ?? {}) as { event?: unknown; time?: number; iter?: number };
  if (typeof event !== "string") return undefined;
  if (Object.hasOwn(Events, event)) return z.safeParse(Events[event as keyof typeof Events], json).data;
  // numbers, or an event of another version, of which only the time is used
  return Number.isFinite(time) && Number.isSafeInteger(iter) && iter! >= 0 ? (json as Numbers) : undefined;
}

/** A metric over the run; `iters` ascends. */
export interface Series {
  iters: number[];
  values: number[];
}

type Event<Name> = Extract<MetricsEvent, { event: Name }>;

/** A run's history from its file, without what a resumption or rollback has replaced. */
export class History {
  start: Event<"start"> | undefined;
  end: Event<"end"> | undefined; // undefined while it runs, and after a kill
  /** By name: the metrics of steps ("loss", "lr", ...) and of evaluations ("train/loss", "val/loss", ...). */
  readonly series = new Map<string, Series>();
  readonly texts: Event<"text">[] = [];
  readonly checkpoints: Event<"checkpoint">[] = [];
  /** When the last event was, in ms since 1970. */
  time = 0;
  /** The next step after the last event. */
  iter = 0;

  add(events: readonly MetricsEvent[]): this {
    for (const event of events) this.#add(event);
    return this;
  }

  #add(event: MetricsEvent): void {
    const { iter } = event;
    if (!this.start && event.event !== "start" && event.event !== "step" && event.event !== "evaluate") return;
    this.time = event.time;
    if (event.event === "start") {
      if (!event.resumed) this.#forget(0); // another run in the same folder
      this.#forget(iter);
      this.start = event;
      this.end = undefined;
      this.iter = iter;
    } else if (event.event === "step" || event.event === "evaluate") {
      if (iter < this.iter) this.#forget(iter); // rolled back
      for (const [name, value] of Object.entries(event)) {
        if (name === "event" || name === "time" || name === "iter") continue;
        if (typeof value === "number" || value === null) this.#point(name, iter, value ?? Number.NaN);
      }
      this.iter = event.event === "step" ? iter + 1 : iter;
    } else if (event.event === "text") {
      this.texts.push(event);
    } else if (event.event === "checkpoint") {
      if (this.checkpoints.at(-1)?.iter === iter) this.checkpoints.pop(); // a resumed run writes its first one again
      this.checkpoints.push(event);
    } else if (event.event === "end") {
      this.end = event;
      this.iter = iter;
    }
  }

  #point(name: string, iter: number, value: number): void {
    let series = this.series.get(name);
    if (!series) {
      if (this.series.size === MOST_NAMES) return; // no run of ours writes that many
      series = { iters: [], values: [] };
      this.series.set(name, series);
    }
    while (series.iters.length > 0 && series.iters.at(-1)! >= iter) {
      series.iters.pop();
      series.values.pop();
    }
    series.iters.push(iter);
    series.values.push(value);
  }

  /** Drop everything from step `from` on. */
  #forget(from: number): void {
    for (const [name, { iters, values }] of this.series) {
      while (iters.length > 0 && iters.at(-1)! >= from) {
        iters.pop();
        values.pop();
      }
      if (iters.length === 0) this.series.delete(name);
    }
    const { texts, checkpoints } = this;
    while (texts.length > 0 && texts.at(-1)!.iter >= from) texts.pop();
    while (checkpoints.length > 0 && (from === 0 || checkpoints.at(-1)!.iter > from)) checkpoints.pop(); // that of `from` stays
  }

  /** The last value of a metric. */
  last(name: string): number | undefined {
    return this.series.get(name)?.values.at(-1);
  }
}

/**
 * The history of the run in a folder.
 * @throws UserError if there is none
 */
export function readHistory(outDir: string): History {
  const reader = new MetricsReader(outDir);
  const history = new History().add(reader.read());
  if (!history.start) {
    const damaged =
      reader.broken > 0 ? `${reader.broken} lines of ${METRICS_FILE} are damaged, and no start is whole` : "";
    const why = damaged || `no ${METRICS_FILE} there, or an empty one`;
    throw new UserError(`no run in ${outDir} (${why}); train one, or name another folder`);
  }
  return history;
}

/** All values at one step; for tests and tables. */
export function at(history: History, iter: number): Metrics {
  const metrics: Metrics = {};
  for (const [name, { iters, values }] of history.series) {
    const i = iters.lastIndexOf(iter);
    if (i >= 0) metrics[name] = values[i]!;
  }
  return metrics;
}
