// Runs training_throughput, or another benchmark, in a separate process: for peak memory and startup time.

import { errorLine, lastLine, startScript } from "../common/child.ts";
import { UserError } from "../common/errors.ts";
import { z } from "../common/zod.ts";
import type { BenchmarkName } from "../settings/rules.ts";
import { type BenchSettings, NOT_MEASURED } from "./settings.ts";

/** Settings not passed to a child: those it has its own of, and `choices` of the benchmark that started it. */
const NOT_PASSED_ON = [...NOT_MEASURED, "choices", "lengths"];

const stepSchema = z.object({
  ms_median: z.number(),
  ms_min: z.number(),
  peak_rss_mb: z.number(),
  rss_import_mb: z.number(),
  rss_growth_mb: z.number(),
  compile_ms: z.number(),
  first_step_s: z.number(),
  mfu: z.number(),
  peak_gflops: z.number(),
  params: z.number(),
  optimizer_mb: z.number(),
  micro_batch_size: z.number(),
  device: z.string(),
});

/** The child's figures, in the units of their names, and its time from start to end. */
export type StepRun = z.infer<typeof stepSchema> & { wall_s: number };

const samplingSchema = z.object({ tokens_per_s: z.number() });

/**
 * Run bench.ts' training_throughput on `settings` with some changed.
 * @param nodeFlags further flags for Node, such as --expose-gc
 */
export async function runStep(
  settings: BenchSettings,
  changes: Partial<BenchSettings> = {},
  nodeFlags: string[] = [],
): Promise<StepRun> {
  const start = performance.now();
  const figures = await runAlone("training_throughput", settings, changes, nodeFlags);
  return { ...stepSchema.parse(figures), wall_s: (performance.now() - start) / 1000 };
}

/** Tokens/s of bench.ts' sampling on `settings` with some changed. */
export async function runSampling(settings: BenchSettings, changes: Partial<BenchSettings>): Promise<number> {
  return samplingSchema.parse(await runAlone("sampling", settings, { ...changes, rounds: 1 })).tokens_per_s;
}

/** The figures of a benchmark in a separate process. */
async function runAlone(
  name: BenchmarkName,
  settings: BenchSettings,
  changes: Partial<BenchSettings>,
  nodeFlags: string[] = [],
): Promise<unknown> {
  const given = { ...settings, ...changes };
  const passed = Object.entries(given).filter(([key, value]) => !NOT_PASSED_ON.includes(key) && value !== "");
  const flags = passed.map(([key, value]) => `--${key}=${value}`);
  const args = [`--benchmark=${name}`, "--json=true", "--results=", ...flags];

  const { process: child, ended } = startScript("bench.ts", args, {}, nodeFlags);
  const kill = () => child.kill(); // the child ends with this process
  process.once("exit", kill);
  const { code, signal, stdout, stderr } = await ended.finally(() => process.off("exit", kill));
  if (code === 0) return JSON.parse(lastLine(stdout));
  const message = errorLine(stderr);
  if (message) throw new UserError(message);
  const what = JSON.stringify(changes);
  if (signal)
    throw new UserError(`the run with ${what} was killed by ${signal}; too little memory? try smaller shapes`);
  throw new Error(`internal: the run with ${what} ended with code ${code}:\n${stderr}`);
}
