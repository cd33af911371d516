// The last lines of a run: why it ended, what its folder holds, and what to type next.

import { joinList } from "../config/lists.ts";
import { commandOf } from "../config/scripts.ts";
import { type Losses, lossOf, type Moment, type RunCheckpoint } from "../engine/run_checkpoint.ts";
import type { Callback, EndEvent, Run } from "./callback.ts";

/** How to go on with the run in a folder: it knows its own settings. */
export function resumeCommand(outDir: string, ...changes: string[]): string {
  return commandOf("train.ts", ["--init_from=resume", `--out_dir=${outDir}`, ...changes]);
}

/** How to train a run longer that has made all its steps. */
export function longerCommand(outDir: string, steps: number): string {
  return resumeCommand(outDir, `--max_iters=${2 * Math.max(1, steps)}`);
}

/** Prints them. */
export function ending(checkpoint: Pick<RunCheckpoint, "folder" | "saved" | "newest">): Callback {
  let run: Run;
  const seen: { iter: number; loss: number }[] = [];
  return {
    name: "ending",
    onTrainStart(started) {
      run = started;
    },
    onEvaluate({ iter, metrics }) {
      seen.push({ iter, loss: metrics["val/ema_loss"] ?? metrics["val/loss"]! });
    },
    onTrainEnd(event) {
      const { folder, saved, newest } = checkpoint;
      if (event.reason === "stopped") run.log(`stopped before step ${event.iter}: ${event.why}`);
      for (const line of whatWasSeen(seen)) run.log(line);
      run.log(whatItHolds(folder, saved, newest));
      for (const line of whatNext(run, event, checkpoint)) run.log(line);
    },
  };
}

/** What deserves a remark about the validation losses of a run from its beginning on. */
function whatWasSeen(seen: readonly { iter: number; loss: number }[]): string[] {
  const [first, ...later] = seen;
  const last = later.at(-1);
  if (!first || !last || first.iter !== 0) return [];
  const lowest = later.reduce((best, other) => (other.loss < best.loss ? other : best));
  if (last.loss === 0) {
    return ["the validation loss is 0: every token follows from those before it, so there is nothing left to learn"];
  }
  if (!(lowest.loss >= first.loss)) return [];
  const steps = `${first.loss.toFixed(4)} at step 0, at best ${lowest.loss.toFixed(4)} at step ${lowest.iter}`;
  return [
    `the validation loss was never below that of step 0 (${steps}): either the validation text is unlike the training ` +
      "text, or --learning_rate is too high",
  ];
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
      `stopped before step ${iter}; ${saved ? `go on with: ${resumeCommand(folder)}` : "there is nothing to save yet"}`,
    ];
  }
  if (reason === "failed") return saved ? [`go on with: ${resumeCommand(folder)}`] : [];
  const samples = model.config.architecture !== "encoder";
  return [
    ...(samples ? [`  sample from it: ${commandOf("sample.ts", [`--out_dir=${folder}`])}`] : []),
    `  plot its losses: ${commandOf("tools/plot.ts", [`--out_dir=${joinList([folder])}`])}`,
    `  train it longer: ${reason === "finished" ? longerCommand(folder, Number(config.max_iters)) : resumeCommand(folder)}`,
  ];
}
