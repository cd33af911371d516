// Follows a run through its metrics.jsonl, and its status. For the views of tools/monitor.ts; draws nothing.

import { UserError } from "../../lib/common/errors.ts";
import { duration, percent, short, significant, whole } from "../../lib/common/format.ts";
import { isRunning } from "../../lib/common/running.ts";
import type { EndReason } from "../../lib/monitor/callback.ts";
import { History, MetricsReader } from "../../lib/monitor/metrics_file.ts";

const QUIET = 10_000; // ms without a line after which a run of a process elsewhere counts as dead

export interface Status {
  /** "waiting": for the first line. "silent": not ended, but its process is gone. */
  state: EndReason | "waiting" | "running" | "silent";
  why?: string; // of the end, or of a failed read
  time: number; // of the last line, ms since 1970
  step: number; // made so far
  steps?: number; // max_iters, if known
  secondsLeft?: number; // while it runs
  best?: { loss: number; step: number }; // lowest validation loss
}

export class FollowedRun {
  readonly history = new History();
  readonly #reader: MetricsReader;
  #problem: string | undefined;

  constructor(outDir: string) {
    this.#reader = new MetricsReader(outDir);
  }

  /** Read what was added. @returns was there anything? A failed read is kept for `status`. */
  poll(): boolean {
    const before = this.#problem;
    try {
      const events = this.#reader.read();
      this.#problem = undefined;
      this.history.add(events);
      return events.length > 0 || before !== undefined;
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      this.#problem = error.message;
      return before !== this.#problem;
    }
  }

  status(now = Date.now()): Status {
    const status = statusOf(this.history, now);
    return this.#problem === undefined ? status : { ...status, why: this.#problem };
  }
}

/** @param alive is the process with this id running on this machine? */
export function statusOf(history: History, now: number, alive = isRunning): Status {
  const { start, end, time } = history;
  if (!start) return { state: "waiting", time, step: 0 };
  const max = start.config.max_iters;
  const steps = typeof max === "number" ? max : undefined;
  const step = Math.min(history.iter, steps ?? history.iter); // the one with the last evaluation goes beyond
  const best = bestOf(history);
  const status = { time, step, ...(steps !== undefined && { steps }), ...(best && { best }) };
  if (end) {
    const state = (["finished", "interrupted", "stopped", "failed"] as const).find((name) => name === end.reason);
    return { ...status, state: state ?? "stopped", ...(end.why !== undefined && { why: end.why }) };
  }
  // its process may be on another machine with a shared disk
  if (now - time > QUIET && !alive(start.pid)) return { ...status, state: "silent" };
  const made = history.iter - start.iter;
  if (steps === undefined || made <= 0) return { ...status, state: "running" };
  const secondsLeft = (((time - start.time) / made) * Math.max(0, steps - step)) / 1000;
  return { ...status, state: "running", secondsLeft };
}

function bestOf(history: History): Status["best"] {
  const { iters, values } = history.series.get("val/loss") ?? { iters: [], values: [] };
  let best: Status["best"];
  for (const [i, loss] of values.entries()) if (loss < (best?.loss ?? Infinity)) best = { loss, step: iters[i]! };
  return best;
}

/** May it continue? */
export function isLive({ state }: Status): boolean {
  return state === "running" || state === "waiting";
}

/** The state in words: "running", "no sign of life for 3 min". */
export function describeState({ state, why, time }: Status, now: number): string {
  const silent = (now - time) / 1000;
  const coarse = silent < 60 ? 10 : 60; // seconds: coarse, so that it doesn't change every second
  const words: Partial<Record<Status["state"], string>> = {
    waiting: "waits for the run to begin",
    silent: `no sign of life for ${duration(Math.floor(silent / coarse) * coarse)}`,
  };
  return (words[state] ?? state) + (why === undefined ? "" : `: ${why}`);
}

/** The number of others, in words: "and 10 more: 9 finished, 1 failed"; "" for none. */
export function describeOthers(others: readonly Status[]): string {
  if (others.length === 0) return "";
  const words: Partial<Record<Status["state"], string>> = { waiting: "not begun", silent: "without a sign of life" };
  const counts = new Map<Status["state"], number>();
  for (const { state } of others) counts.set(state, (counts.get(state) ?? 0) + 1);
  const order = ["running", "waiting", "finished", "stopped", "interrupted", "failed", "silent"] as const;
  const parts = order.flatMap((state) => (counts.has(state) ? [`${counts.get(state)} ${words[state] ?? state}`] : []));
  return `and ${others.length} more: ${parts.join(", ")}`;
}

/** The progress of a run, in words: "step 1,200 of 3,000", "40 %", "2 min left". */
export function describeProgress({ step, steps, secondsLeft }: Status): string[] {
  if (steps === undefined) return [`step ${whole(step)}`];
  const left = secondsLeft === undefined ? [] : [`${duration(secondsLeft)} left`];
  return [`step ${whole(step)} of ${whole(steps)}`, percent(steps === 0 ? 1 : step / steps), ...left];
}

export interface Figure {
  label: string;
  value: string;
}

/** The last value of each known metric, with its unit. */
export function figuresOf(history: History, { best }: Status): Figure[] {
  const shown: [label: string, metric: string, format: (value: number) => string][] = [
    ["loss", "loss", (loss) => loss.toFixed(4)],
    ["val loss", "val/loss", (loss) => loss.toFixed(4)],
    ["lr", "lr", significant],
    ["grad norm", "grad_norm", significant],
    ["tokens/s", "tokens_per_s", short],
    ["mfu", "mfu", percent],
    ["memory", "rss_mb", (mb) => `${whole(mb)} MB`],
    ["GPU memory", "gpu_memory_mb", (mb) => `${whole(mb)} MB`],
    ["CPU", "cpu_percent", (percent) => `${Math.round(percent)} %`],
  ];
  const figures = shown.flatMap(([label, metric, format]) => {
    const value = history.last(metric);
    return value === undefined ? [] : [{ label, value: format(value) }];
  });
  if (best) figures.splice(2, 0, { label: "best val loss", value: `${best.loss.toFixed(4)} at ${whole(best.step)}` });
  return figures;
}

/** The machine and model of the run, as far as known. */
export function describeFacts(history: History): string {
  const { device, parameters, dataset } = history.start?.facts ?? {};
  return [dataset, typeof parameters === "number" && `${short(parameters)} parameters`, device]
    .filter((fact) => fact !== undefined && fact !== false)
    .join(" · ");
}
