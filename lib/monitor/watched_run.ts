// The run as its callbacks see it, and what they ask of it.

import { runName } from "../common/file_names.ts";
import type { Metadata } from "../training/checkpoint.ts";
import type { Objective } from "../training/objective.ts";
import type { RunCheckpoint } from "../training/run_checkpoint.ts";
import type { Run } from "./callback.ts";

export interface WatchedRun extends Run {
  /** Why the run is to end, or to go back to its checkpoint, where a callback asked for it. */
  readonly wish: { stop?: string; rollBack?: string };
}

type Given = Pick<Run, "model" | "engine" | "tokenizer" | "micros" | "abort" | "log" | "validationBatch">;

export interface WatchedRunOptions extends Given {
  config: Readonly<Record<string, unknown> & { out_dir: string; dataset: string }>;
  objective: Objective; // of micro-batches
  resumed: Pick<Metadata, "iter_num"> | undefined; // the checkpoint that the run resumes from
  checkpoint?: Pick<RunCheckpoint, "saved">; // to go back to; none without it
}

/** What callbacks are given of a run; the loop reads back `wish` and `learningRateScale`. */
export function watchedRun({ objective, resumed, checkpoint, ...given }: WatchedRunOptions): WatchedRun {
  const { config, model, engine, micros } = given;
  const { inputs } = objective;
  const [B, T] = inputs.x.shape as [number, number];
  const wish: WatchedRun["wish"] = {};
  return {
    ...given,
    name: runName(config.out_dir),
    outDir: config.out_dir,
    facts: {
      device: engine.description,
      threads: engine.threads,
      parameters: model.numParams(),
      tokens_per_iter: micros * B * T,
      micro_batch_size: B,
      dataset: config.dataset,
      vocab_size: model.config.vocab_size,
    },
    parameters: model.parameters,
    inputs,
    startIter: resumed?.iter_num ?? 0,
    resumed: resumed !== undefined,
    learningRateScale: 1,
    wish,
    stop(why) {
      wish.stop ??= why;
    },
    rollBack(why) {
      if (!checkpoint?.saved) return false;
      wish.rollBack ??= why;
      return true;
    },
  };
}
