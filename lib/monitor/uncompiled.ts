// Warns about the cost of training without compiling. nanoGPT's own command for a laptop has --compile=False, which saves a minute
// there but runs every operation eagerly here: people would wait for hours without knowing why.

import { duration, whole } from "../common/format.ts";
import type { Callback } from "./callback.ts";

export interface Uncompiled {
  compile: boolean;
  max_iters: number;
  eval_interval: number;
}

/** A line before the run, and one after its first step with the estimated time of the run. */
export function uncompiled(
  log: (line: string) => void,
  { max_iters, eval_interval }: Uncompiled,
  now: () => number = () => performance.now(),
): Callback {
  let begin = 0; // ms
  let evaluation: number | undefined; // ms
  let told = false;
  return {
    name: "uncompiled",
    onTrainStart() {
      begin = now();
      log(
        "compile is false: every operation runs eagerly, far slower than compiled, which is for debugging a step; " +
          "to train, leave --compile=false out. The first step tells how long this run will take",
      );
    },
    onEvaluate() {
      evaluation ??= now() - begin; // a run starts with one, unless it was resumed in between
    },
    onStep({ iter, metrics }) {
      if (told) return;
      told = true;
      const steps = max_iters - iter - 1; // the last one is step max_iters - 1
      if (steps <= 0) return;
      const evaluations = Math.ceil(max_iters / eval_interval) - Math.floor(iter / eval_interval); // one at the end
      const seconds = (steps * metrics.step_ms! + evaluations * (evaluation ?? 0)) / 1000;
      const known = evaluation !== undefined && evaluations > 0;
      const and = known ? ` and ${counted(evaluations, "evaluation")}` : "";
      const each = known ? `, an evaluation ${took(evaluation!)}` : "";
      log(
        `a step took ${took(metrics.step_ms!)} uncompiled${each}: the other ${counted(steps, "step")}${and} will take some ` +
          `${duration(seconds)}; without --compile=false they are compiled and far faster`,
      );
    },
  };
}

const counted = (n: number, what: string) => `${whole(n)} ${what}${n === 1 ? "" : "s"}`;
const took = (ms: number) => (ms < 9950 ? `${(ms / 1000).toPrecision(2)} s` : duration(ms / 1000));
