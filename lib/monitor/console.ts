// The lines that training prints, as nanoGPT prints them, and the bar below them.

import type { Progress } from "../common/progress.ts";
import type { Callback } from "./callback.ts";

/** A line for each evaluation, and for the loss of every `logInterval`th step. */
export function consoleLines(log: (line: string) => void, { logInterval }: { logInterval: number }): Callback {
  let runningMfu = -1; // not known yet
  return {
    name: "console",
    onStep({ iter, metrics: { loss, step_ms, tokens_per_s, mfu } }) {
      if (mfu !== undefined) runningMfu = runningMfu < 0 ? mfu : 0.9 * runningMfu + 0.1 * mfu;
      if (iter % logInterval !== 0) return;
      const speed = `${Math.round(tokens_per_s!).toLocaleString("en-US")} tokens/s`;
      const times = `time ${step_ms!.toFixed(2)}ms, mfu ${(runningMfu * 100).toFixed(2)}%, ${speed}`;
      log(`iter ${iter}: loss ${loss!.toFixed(4)}, ${times}`);
    },
    onEvaluate({ iter, metrics, texts }) {
      log(evaluationLine(iter, metrics));
      for (const [name, text] of texts) log(`${name} after ${iter} steps:\n${text}\n---------------`);
    },
  };
}

/** The losses of an evaluation; null, as metrics.jsonl has it, is NaN. */
export function evaluationLine(iter: number, metrics: Readonly<Record<string, unknown>>): string {
  const loss = (name: string) => ((metrics[name] as number | null | undefined) ?? Number.NaN).toFixed(4);
  const averaged = "val/ema_loss" in metrics ? `, averaged ${loss("val/ema_loss")}` : "";
  return `step ${iter}: train loss ${loss("train/loss")}, val loss ${loss("val/loss")}${averaged}`;
}

/** Moves the bar. */
export function progressBar(progress: Progress): Callback {
  return {
    name: "progress",
    onStep: ({ iter, metrics }) => progress.update(iter + 1, `loss ${metrics.loss!.toFixed(4)}`),
    onTrainEnd: () => progress.stop(),
  };
}
