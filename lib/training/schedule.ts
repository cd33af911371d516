// The learning rate of each step: a linear warmup, then one of the curves below.

import type { ScheduleName } from "./choices.ts";

export interface Schedule {
  learning_rate: number; // the highest
  min_lr: number;
  warmup_iters: number;
  lr_decay_iters: number; // the step at which min_lr is reached
  decay_lr: boolean; // false: always learning_rate, without a warmup, whatever `schedule` is
  schedule?: ScheduleName; // cosine if not given
  cooldown_fraction?: number; // share of lr_decay_iters that is wsd's decay, 0 to 1
}

/** Where the rate is between learning_rate (1) and min_lr (0), at the share `done` (0 to 1) of the steps from the warmup's end to
 * lr_decay_iters. `cooldown` is the share of these steps in which wsd decays. */
const curves: Record<ScheduleName, (done: number, cooldown: number) => number> = {
  // Loshchilov and Hutter 2017
  cosine: (done) => 0.5 * (1 + Math.cos(Math.PI * done)),
  linear: (done) => 1 - done,
  // warmup, stable, decay (Hu et al. 2024), decaying by 1 - sqrt (Hägele et al. 2024)
  wsd: (done, cooldown) => (done <= 1 - cooldown ? 1 : 1 - Math.sqrt((done - (1 - cooldown)) / cooldown)),
  constant: () => 1,
};

/** The learning rate of step `iter`, from 0 on. After lr_decay_iters it is min_lr, unless the schedule is constant. */
export function learningRateAt(iter: number, options: Schedule): number {
  const { learning_rate, min_lr, warmup_iters, lr_decay_iters, decay_lr } = options;
  const { schedule = "cosine", cooldown_fraction = 0.2 } = options;
  if (!decay_lr) return learning_rate;
  if (iter < warmup_iters) return (learning_rate * (iter + 1)) / (warmup_iters + 1);
  if (schedule === "constant") return learning_rate;
  if (iter > lr_decay_iters) return min_lr;
  const length = Math.max(1, lr_decay_iters - warmup_iters);
  const cooldown = (cooldown_fraction * lr_decay_iters) / length;
  return min_lr + curves[schedule]((iter - warmup_iters) / length, cooldown) * (learning_rate - min_lr);
}
