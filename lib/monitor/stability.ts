// Lowers the learning rate when training no longer improves or becomes unstable: the loss spikes, or is NaN.

import { UserError } from "../common/errors.ts";
import { median } from "../common/statistics.ts";
import { z } from "../common/zod.ts";
import type { Callback, Run } from "./callback.ts";

const WINDOW = 50; // steps that a loss is compared with
const IN_A_ROW = 3; // one bad batch isn't a spike
const MOST = 10; // rollbacks in a run before it fails

export interface StabilityOptions {
  lr_patience: number; // evaluations without a better validation loss until the rate is lowered; 0 for never
  lr_factor: number; // what the learning rate is multiplied by
  spike_threshold: number; // a loss this many deviations above the recent median is a spike; 0 for none
  rollback: boolean; // go back to the last checkpoint at a spike
}

const State = z.object({
  scale: z.number(),
  waited: z.int(),
  last: z.int(),
  rolled_back: z.int(),
  losses: z.array(z.number()),
});

export function stability({ lr_patience, lr_factor, spike_threshold, rollback }: StabilityOptions): Callback {
  let run: Run;
  let losses: number[] = []; // of the last steps, without those of a current spike
  let high = 0; // steps in a row
  let [waited, last] = [0, -1]; // evaluations, and the step of the last one: a resumed run repeats it
  let rolledBack = 0;
  let scale = 1;

  function lower(): string {
    scale *= lr_factor;
    run.learningRateScale = scale;
    return `the learning rate is ${Number(scale.toPrecision(3))} of its schedule from here on`;
  }

  function isSpike(loss: number): boolean {
    if (spike_threshold > 0 && losses.length === WINDOW) {
      const center = median(losses);
      const deviation = 1.4826 * median(losses.map((other) => Math.abs(other - center))); // as for a normal distribution
      if (loss > center + spike_threshold * deviation) return ++high >= IN_A_ROW;
    }
    high = 0;
    losses.push(loss);
    if (losses.length > WINDOW) losses.shift();
    return false;
  }

  return {
    name: "stability",
    onTrainStart(started) {
      run = started;
      run.learningRateScale = scale;
    },
    onStep({ iter, metrics: { loss, grad_norm = 0 } }) {
      // no norm: float16 skipped the step to change the loss scale
      const broken = !Number.isFinite(loss) || !Number.isFinite(grad_norm);
      if (!broken && !isSpike(loss!)) return;
      const [name, value] = Number.isFinite(loss) ? ["gradient", grad_norm] : ["loss", loss];
      const what = broken
        ? `the ${name} is ${Number.isNaN(value) ? "NaN" : "infinite"}`
        : `the loss has jumped to ${loss!.toFixed(4)} (spike_threshold)`;
      [losses, high] = [[], 0];
      const canRollBack = rollback && rolledBack < MOST;
      if (canRollBack && run.rollBack(`step ${iter}: ${what}`)) {
        rolledBack++;
        run.log(lower());
      } else if (broken) {
        const tried = rolledBack > 0 ? `, after ${rolledBack} roll backs` : "";
        const message = `${what}${tried}; lower --learning_rate, or see --rollback and --grad_clip`;
        throw new UserError(message, { code: "diverged" });
      } else run.log(`step ${iter}: ${what}; ${lower()}`);
    },
    onEvaluate({ iter, best }) {
      if (iter !== last) waited = best ? 0 : waited + 1;
      last = iter;
      if (lr_patience === 0 || waited < lr_patience) return;
      waited = 0;
      run.log(`step ${iter}: no better validation loss in ${lr_patience} evaluations (lr_patience); ${lower()}`);
    },
    state: () => ({ scale, waited, last, rolled_back: rolledBack, losses }),
    restore(state) {
      ({ scale, waited, last, rolled_back: rolledBack, losses } = State.parse(state));
    },
  };
}
