// One training step of ours against PyTorch's, measured in one sitting on this machine:
//
//   npx tsx tools/compare/compare_torch.ts --nanogpt=PATH --python=PATH --rounds=5
//
// Every run is a separate process and the contenders alternate (ours, eager, compiled, ours, ...), so that a machine
// that slows down slows all of them; what counts is the median over the rounds. --compile_rival=false leaves the
// compiled one out. torch.compile keeps its work on disk, so its first step is slow in the first round of a shape only:
// the range beside the median shows it. Left out: GPUs, loading data, evaluation.

import { availableParallelism, cpus } from "node:os";
import { resolve } from "node:path";
import { pick, runScript } from "../../configurator.ts";
import { UserError } from "../../lib/common/errors.ts";
import { alignTable } from "../../lib/common/format.ts";
import { median } from "../../lib/common/statistics.ts";
import { z } from "../../lib/common/zod.ts";
import { pathOf, requireNanoGPT, requireTorch, runContender } from "./rival.ts";

/** The settings that all contenders get, under the same names. */
const SHARED = {
  // shapes: nanoGPT's CPU recipe
  n_layer: 4,
  n_head: 4,
  n_embd: 128,
  block_size: 64,
  batch_size: 12,
  vocab_size: 65,
  dropout: 0.0,
  bias: false,
  // clock
  threads: 0, // 0: one a core
  steps: 30, // timed steps a run
  warmup: 5, // steps before the clock starts
};

export const defaults = {
  nanogpt: "", // a checkout of karpathy/nanoGPT; its model is the opponent
  python: "python3", // a Python that has torch and numpy
  compile_rival: true, // run the opponent with torch.compile too
  rounds: 5, // each contender runs once a round
  json: false, // print one JSON object, as the last line, instead of the table
  ...SHARED,
};

type Shared = Record<string, number | boolean>;

// bench.ts would refuse NANOGPT_ROUNDS; what it may see of our settings it gets as flags
const OURS = new Set(Object.keys(defaults).map((key) => `NANOGPT_${key.toUpperCase()}`));
const ENV = Object.fromEntries(Object.entries(process.env).filter(([key]) => !OURS.has(key)));

/** The figures of a run, which are also the columns of the table. */
const MEASURED = ["ms_median", "tokens_per_s", "peak_rss_mb", "first_step_s"] as const;

const runSchema = z.looseObject({
  ms_median: z.number(),
  tokens_per_s: z.number(),
  peak_rss_mb: z.nullish(z.number()), // null where the system doesn't tell
  first_step_s: z.nullish(z.number()),
  loss: z.number(),
});

type Run = z.infer<typeof runSchema>;

interface Contender {
  name: string;
  command: string;
  args: string[];
  runs: Run[];
}

/** Print the table of step times. @throws UserError where an opponent is missing */
export async function run(config: Readonly<typeof defaults>): Promise<void> {
  requireNanoGPT(config.nanogpt);
  if (!Number.isInteger(config.rounds) || config.rounds < 1)
    throw new UserError(`rounds must be an integer of at least 1, got ${config.rounds}`);
  const threads = config.threads || availableParallelism();
  const shared = { ...pick(config, Object.keys(SHARED) as (keyof typeof SHARED)[]), threads };
  const flags = Object.entries(shared).map(([key, value]) => `--${key}=${value}`);
  const python = pathOf(config.python);
  requireTorch(python);

  // 1) who takes part
  const rival = (name: string, compile: boolean): Contender => ({
    name,
    command: python,
    args: ["tools/compare/rival_torch.py", `--nanogpt=${resolve(config.nanogpt)}`, `--compile=${compile}`, ...flags],
    runs: [],
  });
  // node runs bench.ts itself, without the process that the tsx command puts in between
  const ours: Contender = {
    name: "ours",
    command: process.execPath,
    args: ["--import", "tsx", "bench.ts", "--json=true", ...flags],
    runs: [],
  };
  const rivals = [rival("PyTorch eager", false)];
  if (config.compile_rival) rivals.push(rival("PyTorch compiled", true));
  const contenders = [ours, ...rivals];

  // 2) in turns
  for (let round = 1; round <= config.rounds; round++) {
    for (const contender of contenders) {
      const run = await runOnce(contender, shared);
      contender.runs.push(run);
      console.error(`round ${round}/${config.rounds}  ${contender.name}: ${run.ms_median.toFixed(1)} ms/step`);
    }
  }

  // 3) the verdict
  const best = rivals.reduce((a, b) => (ms(b) < ms(a) ? b : a));
  const ratio = ms(ours) / ms(best);
  if (config.json) {
    const results = contenders.map(({ name, runs }) => ({ name, median: medians(runs), runs }));
    console.log(
      JSON.stringify({ machine: machine(), ...shared, rounds: config.rounds, results, best: best.name, ratio }),
    );
    return;
  }
  console.log(`\n${machine()}, ${threads} threads, medians of ${config.rounds} rounds of ${config.steps} steps`);
  console.log(flags.join(" "));
  console.log(table(contenders));
  console.log(`\nours / ${best.name}: ${ratio.toFixed(3)} of its time a step (below 1 we are faster)`);
}

/** Run a contender once and check that it measured what was asked for. */
async function runOnce({ name, command, args }: Contender, shared: Shared): Promise<Run> {
  const run = parseRun(name, await runContender(name, command, args, ENV));
  for (const key of Object.keys(SHARED)) {
    // a contender that ignored a flag would be timed on another model
    if (key in run && run[key] !== shared[key])
      throw new Error(`internal: ${name} was asked for ${key}=${shared[key]} and ran ${run[key]}`);
  }
  return run;
}

function parseRun(name: string, line: string): Run {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw new Error(`internal: the last line of ${name} is no JSON: ${line}`);
  }
  return runSchema.parse(value);
}

/** Milliseconds a step. */
function ms(contender: Contender): number {
  return median(contender.runs.map((run) => run.ms_median));
}

/** What the runs say of one figure; empty where a contender doesn't tell. */
function figures(runs: Run[], key: (typeof MEASURED)[number]): number[] {
  return runs.map((run) => run[key]).filter((value) => typeof value === "number");
}

function medians(runs: Run[]): Record<string, number | null> {
  return Object.fromEntries(
    MEASURED.map((key) => {
      const values = figures(runs, key);
      return [key, values.length ? median(values) : null];
    }),
  );
}

function table(contenders: Contender[]): string {
  const head = ["", "ms/step", "low-high", "tokens/s", "peak MB", "first step s", "low-high"];
  const rows = contenders.map(({ name, runs }) => {
    const cell = (key: (typeof MEASURED)[number], digits: number) => {
      const values = figures(runs, key);
      return values.length ? median(values).toFixed(digits) : "-";
    };
    const range = (key: (typeof MEASURED)[number]) => {
      const values = figures(runs, key);
      return values.length ? `${Math.min(...values).toFixed(1)}-${Math.max(...values).toFixed(1)}` : "-";
    };
    const firstStep = [cell("first_step_s", 2), range("first_step_s")];
    return [
      name,
      cell("ms_median", 2),
      range("ms_median"),
      cell("tokens_per_s", 0),
      cell("peak_rss_mb", 0),
      ...firstStep,
    ];
  });
  return alignTable([head, ...rows]);
}

function machine(): string {
  return `${cpus()[0]?.model ?? process.arch} (${availableParallelism()} cores), Node ${process.versions.node}`;
}

await runScript(import.meta.url, defaults, run);
