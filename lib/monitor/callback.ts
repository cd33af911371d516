// Callbacks watch a run: objects with some of five functions, which train.ts calls during training. The built-in ones are in this
// folder; add your own file with --callbacks=./my_callback.ts which exports one as its default:
//
//   export default {
//     name: "longest",
//     onStep({ iter, metrics }) {
//       if (metrics.step_ms > 1000) console.log(`step ${iter} took ${metrics.step_ms} ms`);
//     },
//   } satisfies Callback;

import type { GPT } from "../../model.ts";
import type { Engine } from "../engine/runtime/program.ts";
import type { Meta } from "../text/meta.ts";
import type { Batch, Objective } from "../training/objective.ts";

/** Named numbers of one moment, such as `{ loss: 2.31 }`. A "/" makes groups: "time/data". */
export type Metrics = Record<string, number>;

/** One of the model's weights, read-only. */
export interface Watched {
  readonly name: string; // as in the checkpoint: "transformer.h.0.attn.c_attn.weight"
  readonly shape: readonly number[];
  readonly data: Float32Array;
  readonly grad?: Float32Array; // after a step: before clipping; times the event's gradScale it is the mean over the micro-batches
}

/** What a callback can see of the run, and the three things it can do to it. */
export interface Run {
  readonly name: string; // the last part of out_dir
  readonly outDir: string; // exists and can be written to
  readonly config: Readonly<Record<string, unknown>>; // every setting
  readonly facts: Readonly<Record<string, string | number>>; // device, threads, parameters, tokens_per_iter, ...
  readonly parameters: readonly Watched[];
  readonly model: GPT;
  readonly engine: Engine; // for programs of your own
  readonly tokenizer: Meta | undefined; // the dataset's meta.json; undefined for GPT-2's tokens
  readonly inputs: Objective["inputs"]; // of the model, with a micro-batch's shapes
  /** A micro-batch of the validation split, always the same one; valid until the next step. */
  validationBatch(): Batch;
  readonly micros: number; // micro-batches in a step
  readonly startIter: number; // 0, or where a resumed run continues
  readonly resumed: boolean;
  /** Print a line, on the terminal and in the log. */
  log(line: string): void;
  /** Factor of the schedule's learning rate from the next step on; starts at 1. */
  learningRateScale: number;
  /** End after this step, as after the last one. */
  stop(why: string): void;
  /** After this step roll back to the checkpoint in outDir; false if this run has none. */
  rollBack(why: string): boolean;
  /** Aborted by Ctrl-C or a termination signal; long work should end then. */
  readonly abort: AbortSignal;
}

/** Step number `iter`, counted from 0, was made. A callback may add metrics, which later callbacks write. */
export interface StepEvent {
  readonly iter: number;
  /** loss (nats a token), lr, grad_norm (before clipping), step_ms, tokens_per_s; mfu (0 to 1) from the sixth step on. In
   * float16 also loss_scale (of the next step) and skipped_steps (of the run so far); a step that was skipped, with nothing
   * changed, has no grad_norm. */
  readonly metrics: Metrics;
  /** What a parameter's `grad` is to be multiplied by: it is the sum over the micro-batches, times float16's loss scale. */
  readonly gradScale: number;
  /** Numbers by name whose distribution is recorded, such as weights. */
  readonly histograms: Map<string, Float32Array>;
}

/** The model was evaluated after `iter` steps. A callback may add metrics and texts, which later callbacks write. */
export interface EvaluateEvent {
  readonly iter: number;
  /** train/loss and val/loss (nats a token); val/ema_loss, of the EMA of the weights, if there is one */
  readonly metrics: Metrics;
  /** Is its validation loss (of the EMA, if there is one) the lowest so far? */
  readonly best: boolean;
  /** Texts by name, such as samples. */
  readonly texts: Map<string, string>;
}

export interface CheckpointEvent {
  readonly iter: number; // the step that comes next
  readonly path: string; // its ckpt.json
  readonly seconds: number; // that writing took
}

/** Why a run ended: all steps made, Ctrl-C or a termination signal, a callback's request, or an error. */
export type EndReason = "finished" | "interrupted" | "stopped" | "failed";

export interface EndEvent {
  readonly iter: number; // the step that would have come next
  readonly reason: EndReason;
  readonly why?: string; // a callback's, or the error's message
  readonly diverged?: true; // it failed because a loss or a gradient was NaN or infinite
}

/** All functions may be async: the run waits. */
export interface Callback {
  readonly name: string;
  /** What happens when one of its functions throws: the run ends (after a checkpoint), or continues without the callback. */
  readonly onError?: "stop" | "continue"; // "stop" if not given
  onTrainStart?(run: Run): void | Promise<void>;
  onStep?(event: StepEvent): void | Promise<void>;
  onEvaluate?(event: EvaluateEvent): void | Promise<void>;
  onCheckpoint?(event: CheckpointEvent): void | Promise<void>;
  onTrainEnd?(event: EndEvent): void | Promise<void>;
  /** Its state for resuming the run, as JSON; kept in the checkpoint. */
  state?(): unknown;
  /** Restore that state, before onTrainStart and after a rollback. */
  restore?(state: unknown): void;
}
