// The server of tools/monitor.ts' page: its files, and the runs' metrics, thinned as the page requests. The page polls once a second; if
// nothing is new the answer is short. Stateless with respect to pages.

import type { Server } from "node:http";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { needPackages } from "../../lib/common/extra_packages.ts";
import { z } from "../../lib/common/zod.ts";
import type { History } from "../../lib/monitor/metrics_file.ts";
import { type Points, type Range, smooth, thin } from "../../lib/monitor/thin.ts";
import { createPageServer, pageFiles } from "../page_server.ts";
import type { RunSet, ShownRun } from "./run_set.ts";
import {
  describeFacts,
  describeOthers,
  describeProgress,
  describeState,
  type Figure,
  figuresOf,
  type Status,
} from "./run_status.ts";

const HERE = dirname(fileURLToPath(import.meta.url));
const TEXTS = 200; // of a run, the last ones: samples on the page
const BARS = 48; // of the time split
const NOISY = ["loss", "grad_norm", "tokens_per_s"]; // also get a smoothed line
const FEW = 24; // metrics of a family; more of them are thinned more

const amount = z.number().check(z.gte(0));
const updateRequest = z.object({
  version: z.string(), // of the last answer; "" for none
  range: z.nullable(z.object({ from: amount, to: amount })), // steps; null for all
  width: z.int().check(z.gte(10), z.lte(8000)), // of a chart, in pixels
  smoothing: z.nullable(z.number().check(z.gte(1))), // points; null for what suits the range
});
const textsRequest = z.object({ folder: z.string() });

export type UpdateRequest = z.infer<typeof updateRequest>;

/** Answer to /update */
export interface Update {
  version: string; // changes whenever anything has changed
  told?: Told; // only if `version` differs from the request's
}

export interface Told {
  name: string; // of all of it
  count: number; // runs, including those not shown
  live: number; // of them in progress
  progress: string[]; // of experiments
  others: string; // those not shown; "" for none
  runs: RunUpdate[];
}

export interface RunUpdate {
  folder: string; // identifies it
  label: string;
  place: number; // for its colour
  state: Status["state"];
  stateText: string;
  facts: string;
  share: number | null; // done, 0 to 1; null if unknown
  progress: string[];
  figures: Figure[];
  config: Record<string, unknown>;
  lastStep: number;
  texts: string; // changes with the texts
  series: Record<string, Points>; // by metric; "loss/smoothed" and the like too
  time: TimeSplit;
}

/** Seconds by kind of work, of one or more evaluations to a bar. */
export interface TimeSplit {
  iters: number[];
  seconds: Record<string, number[]>;
}

/** Answer to /texts, the newest last */
export interface Text {
  iter: number;
  name: string;
  text: string;
}

export async function createMonitorServer(runs: RunSet): Promise<Server> {
  needPackages("no page", "echarts");
  const files = new Map(await pageFiles(HERE, ["page.ts"]));
  const begun = Date.now(); // so that a page notices a new server
  let changes = 0;
  runs.poll(); // a long file takes time: read it before the first request

  function update(request: UpdateRequest): Update {
    const now = Date.now();
    if (runs.poll(now)) changes++;
    const { shown, others, progress } = runs;
    const states = shown.map(({ run }) => run.status(now));
    const words = describeOthers(others);
    // including words that change without a file
    const version = [begun, changes, words, ...progress, ...states.map((state) => describeState(state, now))].join(" ");
    if (version === request.version) return { version };
    const all = [...states, ...others];
    const told: Told = {
      name: runs.name,
      count: all.length,
      live: all.filter(({ state }) => state === "running").length,
      progress,
      others: words,
      runs: shown.map((run, i) => describe(run, states[i]!, now, request)),
    };
    return { version, told };
  }

  return createPageServer({
    files,
    calls: {
      "/update": (body) => update(updateRequest.parse(body)),
      "/texts": (body): Text[] => {
        const asked = textsRequest.parse(body).folder;
        const texts = runs.shown.find(({ folder }) => folder === asked)?.run.history.texts ?? []; // the run may be gone
        return texts.slice(-TEXTS).map(({ iter, name, text }) => ({ iter, name, text }));
      },
    },
  });
}

function describe(shown: ShownRun, status: Status, now: number, request: UpdateRequest): RunUpdate {
  const { folder, label, place } = shown;
  const { history } = shown.run;
  const { step, steps } = status;
  const lastStep = Math.max(0, ...[...history.series.values()].map(({ iters }) => iters.at(-1)!));
  const range = { from: request.range?.from ?? 0, to: Math.min(request.range?.to ?? lastStep, lastStep) };
  const last = history.texts.at(-1);
  return {
    folder,
    label,
    place,
    state: status.state,
    stateText: describeState(status, now),
    facts: describeFacts(history),
    share: steps === undefined ? null : steps === 0 ? 1 : step / steps,
    progress: history.start ? describeProgress(status) : [],
    figures: figuresOf(history, status),
    config: history.start?.config ?? {},
    lastStep,
    texts: last ? `${history.texts.length} ${last.iter} ${last.time}` : "",
    series: thinAll(history, range, request),
    time: splitTime(history, range),
  };
}

function thinAll(history: History, range: Range, { width, smoothing }: UpdateRequest): Record<string, Points> {
  const family = (name: string) => name.split("/")[0]!;
  const sizes = new Map<string, number>();
  for (const name of history.series.keys()) sizes.set(family(name), (sizes.get(family(name)) ?? 0) + 1);
  const thinned: Record<string, Points> = {};
  for (const [name, series] of history.series) {
    if (name.startsWith("time/")) continue;
    const many = sizes.get(family(name))! / FEW;
    thinned[name] = thin(series, range, Math.ceil(width / Math.max(1, many)));
  }
  const window = smoothing ?? Math.max(10, (range.to - range.from) / 100);
  for (const name of NOISY) {
    const series = history.series.get(name);
    if (series) thinned[`${name}/smoothed`] = thin(smooth(series, window), range, width);
  }
  return thinned;
}

/** Evaluations per bar for at most BARS: those that end in the range, and the one it ends in. */
function splitTime(history: History, { from, to }: Range): TimeSplit {
  const parts = [...history.series].filter(([name]) => name.startsWith("time/"));
  const every = [...new Set(parts.flatMap(([, { iters }]) => iters))].sort((a, b) => a - b);
  const all = every.filter((iter, i) => iter >= from && (i === 0 || every[i - 1]! < to));
  const size = Math.ceil(all.length / BARS);
  const barOf = new Map(all.map((iter, i) => [iter, Math.floor(i / size)]));
  const iters = all.filter((_, i) => i % size === size - 1 || i === all.length - 1);
  const seconds: TimeSplit["seconds"] = {};
  for (const [name, series] of parts) {
    const sums = iters.map(() => 0);
    for (const [i, iter] of series.iters.entries()) {
      const bar = barOf.get(iter);
      if (bar !== undefined) sums[bar]! += series.values[i]! || 0; // NaN: unknown
    }
    seconds[name.slice("time/".length)] = sums;
  }
  return { iters, seconds };
}
