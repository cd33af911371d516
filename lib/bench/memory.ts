// Memory of a training step, each run in a separate process: the peak, its parts, and the growth from step to step, which is zero
// unless something leaks. More --steps find smaller leaks.

import { median } from "../common/statistics.ts";
import { type Benchmark, exact, MB, metric } from "./benchmark.ts";
import { runStep, type StepRun } from "./child.ts";

const SETTLED = 10; // steps after which memory should no longer grow

export const memory: Benchmark = async (settings, progress) => {
  const runs: StepRun[] = [];
  for (let round = 1; round <= settings.rounds; round++) {
    const run = await runStep(settings, { warmup: SETTLED }, ["--expose-gc"]);
    runs.push(run);
    progress(`memory ${round}/${settings.rounds}: ${run.peak_rss_mb.toFixed(0)} MB at its peak`);
  }
  const { params, optimizer_mb, micro_batch_size, device } = runs[0]!;
  const { batch_size, gradient_accumulation_steps, block_size, n_layer, n_head, n_embd, steps, grad_checkpoint } =
    settings;

  // the program's own allocations are known to the byte; the rest is ONNX Runtime's and Node's
  const several = gradient_accumulation_steps * batch_size > micro_batch_size; // then gradients are summed in a copy
  const weights = exact("weights_mb", "MB", "lower", (4 * params) / MB);
  const gradients = exact("gradients_mb", "MB", "lower", ((several ? 8 : 4) * params) / MB);
  const optimizer = exact("optimizer_mb", "MB", "lower", optimizer_mb);
  const known = weights.value + gradients.value + optimizer.value;
  const figure = (name: string, unit: string, of: (run: StepRun) => number) =>
    metric(name, unit, "lower", runs.map(of));
  const peak = figure("peak_rss_mb", "MB", (run) => run.peak_rss_mb);
  const base = figure("runtime_mb", "MB", (run) => run.rss_import_mb);
  const rest = figure("rest_mb", "MB", (run) => run.peak_rss_mb - run.rss_import_mb - known);
  const growth = figure("growth_kb_per_step", "KB/step", (run) => (1024 * run.rss_growth_mb) / steps);
  const line = (label: string, mb: number, what: string) =>
    `${label.padEnd(12)} ${mb.toFixed(1).padStart(8)} MB  ${what}`;
  return {
    metrics: [peak, base, weights, gradients, optimizer, rest, growth],
    facts: {
      ...{ device, n_layer, n_head, n_embd, block_size, batch_size, micro_batch_size },
      ...{ grad_checkpoint, params, steps },
    },
    summary: [
      line("peak:", peak.value, `of the process (median of ${settings.rounds})`),
      line("  runtime", base.value, "Node and the libraries, before there is a model"),
      line("  weights", weights.value, "exactly"),
      line("  gradients", gradients.value, several ? "exactly; twice, to add up those of micro-batches" : "exactly"),
      line("  optimizer", optimizer.value, `exactly: the state of ${settings.optimizer}`),
      line("  rest", rest.value, `activations of ${micro_batch_size} sequences at once, the graph, Node's heap`),
      `growth:      ${growth.value.toFixed(1)} KB a step from step ${SETTLED} to ${SETTLED + steps} ` +
        `(${median(runs.map((run) => run.rss_growth_mb)).toFixed(1)} MB in all)`,
    ],
  };
};
