// Early stopping: ends a run whose validation loss no longer improves.

import { z } from "../common/zod.ts";

import type { Callback, Run } from "./callback.ts";

const State = z.object({ waited: z.int(), last: z.int() });

/** Stop after `patience` evaluations in a row without a new lowest validation loss. */
export function earlyStop({ patience }: { patience: number }): Callback {
  let run: Run;
  let [waited, last] = [0, -1]; // evaluations, and the step of the last one: a resumed run repeats it
  return {
    name: "early_stop",
    onTrainStart: (started) => {
      run = started;
    },
    onEvaluate({ iter, best, metrics }) {
      if (iter !== last) waited = best ? 0 : waited + 1;
      last = iter;
      if (waited < patience) return;
      run.stop(
        `no better validation loss in ${waited} evaluations (early_stop_patience), now ${metrics["val/loss"]!.toFixed(4)}`,
      );
    },
    state: () => ({ waited, last }),
    restore(state) {
      ({ waited, last } = State.parse(state));
    },
  };
}
