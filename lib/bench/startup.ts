// Startup time of a run: from the start of its process to the end of the first training step, and to its end. The first round isn't
// counted: it brings the files into the system's cache.

import { type Benchmark, metric } from "./benchmark.ts";
import { runStep, type StepRun } from "./child.ts";

export const startup: Benchmark = async (settings, progress) => {
  const runs: StepRun[] = [];
  for (let round = 0; round <= settings.rounds; round++) {
    const run = await runStep(settings, { steps: 1, warmup: 0 });
    if (round > 0) runs.push(run);
    progress(`startup ${round}/${settings.rounds}: first step after ${run.first_step_s.toFixed(2)} s`);
  }
  const of = (key: "first_step_s" | "compile_ms" | "wall_s") => runs.map((run) => run[key]);
  const firstStep = metric("first_step_s", "s", "lower", of("first_step_s"));
  const compile = metric("compile_ms", "ms", "lower", of("compile_ms"));
  const wall = metric("wall_s", "s", "lower", of("wall_s"));
  const { n_layer, n_head, n_embd, block_size, batch_size } = settings;
  return {
    metrics: [firstStep, compile, wall],
    facts: { device: runs[0]!.device, n_layer, n_head, n_embd, block_size, batch_size, params: runs[0]!.params },
    summary: [
      `first step:  ${firstStep.value.toFixed(2)} s after the process started (median of ${settings.rounds})`,
      `  of these:  ${compile.value.toFixed(0)} ms to trace the step and to make its session`,
      `whole run:   ${wall.value.toFixed(2)} s for one step, with the measurement of the machine's peak and the exit`,
    ],
  };
};
