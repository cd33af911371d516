// The end of a run: why it ended, what its folder holds, and what to type next.

import { hasDiverged } from "../common/errors.ts";
import { commandOf } from "../common/scripts.ts";
import { Cancelled } from "../engine/runtime/session.ts";
import { joinList } from "../settings/lists.ts";
import type { Metadata } from "../training/checkpoint.ts";
import { type Losses, lossOf, type Moment, type RunCheckpoint, reachedBy } from "../training/run_checkpoint.ts";
import type { Callback, EndEvent, Run } from "./callback.ts";
import type { Series } from "./metrics_file.ts";

/** The command that resumes the run in a folder; its checkpoint has the settings. */
export function resumeCommand(outDir: string, ...changes: string[]): string {
  return commandOf("train.ts", ["--init_from=resume", `--out_dir=${outDir}`, ...changes]);
}

/** Has the run that is to be resumed made all its steps? Says so, and how to train it longer. */
export function hasFinished(
  resumed: Metadata,
  { out_dir, max_iters }: { out_dir: string; max_iters: number },
  log: (line: string) => void,
): boolean {
  const reached = reachedBy(resumed);
  if (reached < max_iters) return false;
  log(`the run in ${out_dir} has made all of its ${max_iters} steps; its checkpoint is of step ${resumed.iter_num}`);
  log(`train it longer: ${longerCommand(out_dir, reached)}`);
  return true;
}

/** Why a run ended, by what ended it: Cancelled is Ctrl-C or a termination signal. */
export function endBy(error: unknown): Omit<EndEvent, "iter"> {
  if (error instanceof Cancelled) return { reason: "interrupted" };
  const why = error instanceof Error ? error.message : String(error);
  return { reason: "failed", why, ...(hasDiverged(error) && { diverged: true }) };
}

/** The command that trains a finished run longer. */
function longerCommand(outDir: string, steps: number): string {
  return resumeCommand(outDir, `--max_iters=${2 * Math.max(1, steps)}`);
}

/** Prints the last lines. */
export function ending(checkpoint: Pick<RunCheckpoint, "folder" | "saved" | "newest">): Callback {
  let run: Run;
  const seen: Series = { iters: [], values: [] };
  return {
    name: "ending",
    onTrainStart(started) {
      run = started;
    },
    onEvaluate({ iter, metrics }) {
      seen.iters.push(iter);
      seen.values.push(metrics["val/ema_loss"] ?? metrics["val/loss"]!);
    },
    onTrainEnd(event) {
      const { folder, saved, newest } = checkpoint;
      if (event.reason === "stopped") run.log(`stopped before step ${event.iter}: ${event.why}`);
      const remark = remarkOn(seen);
      if (remark !== undefined) run.log(remark);
      run.log(whatItHolds(folder, saved, newest));
      for (const line of whatNext(run, event, checkpoint)) run.log(line);
    },
  };
}

/** What is unusual about a run's validation losses, if they are known from step 0 on. */
export function remarkOn({ iters, values: [first, ...later] }: Series): string | undefined {
  if (iters[0] !== 0 || first === undefined || later.length === 0) return undefined;
  if (later.at(-1) === 0) {
    return "the validation loss is 0: every token follows from those before it, so there is nothing left to learn";
  }
  const lowest = later.reduce((least, loss) => Math.min(least, loss));
  if (!(lowest >= first)) return undefined;
  const steps = `${first.toFixed(4)} at step 0, at best ${lowest.toFixed(4)} at step ${iters[1 + later.indexOf(lowest)]}`;
  return (
    `the validation loss was never below that of step 0 (${steps}): either the validation text is unlike the training ` +
    "text (shuffle the text's parts), or --learning_rate is too high"
  );
}

function whatItHolds(folder: string, saved: Moment | undefined, newest: Moment | undefined): string {
  if (!saved) return `${folder} holds no checkpoint of this run`;
  const best = `${folder} holds the checkpoint of step ${saved.iter} (${describe(saved.losses)})`;
  return newest === saved || !newest ? best : `${best}, the best, and the run's last state, of step ${newest.iter}`;
}

function describe(losses: Losses | undefined): string {
  if (!losses) return "not evaluated";
  const parts = Number.isFinite(losses.train) ? [`train loss ${losses.train.toFixed(4)}`] : [];
  parts.push(`val loss ${losses.val.toFixed(4)}`);
  if (losses.ema !== undefined) parts.push(`averaged ${lossOf(losses).toFixed(4)}`);
  return parts.join(", ");
}

function whatNext(
  { model, config }: Run,
  { iter, reason }: EndEvent,
  { folder, saved }: Pick<RunCheckpoint, "folder" | "saved">,
): string[] {
  if (reason === "interrupted") {
    return [
      `stopped before step ${iter}; ${saved ? `continue with: ${resumeCommand(folder)}` : "there is nothing to save yet"}`,
    ];
  }
  if (reason === "failed") return saved ? [`continue with: ${resumeCommand(folder)}`] : [];
  const samples = model.config.architecture !== "encoder";
  return [
    ...(samples ? [`  sample from it: ${commandOf("sample.ts", [`--out_dir=${folder}`])}`] : []),
    `  plot its losses: ${commandOf("tools/plot.ts", [`--out_dir=${joinList([folder])}`])}`,
    `  train it longer: ${reason === "finished" ? longerCommand(folder, Number(config.max_iters)) : resumeCommand(folder)}`,
  ];
}
