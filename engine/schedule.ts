// The learning rate of each step.

export interface Schedule {
  learning_rate: number; // the highest
  min_lr: number;
  warmup_iters: number;
  lr_decay_iters: number;
  decay_lr: boolean; // else always learning_rate
}

/** Linear warmup, then a cosine from learning_rate down to min_lr at lr_decay_iters (Loshchilov and Hutter 2017). */
export function learningRateAt(iter: number, schedule: Schedule): number {
  const { learning_rate, min_lr, warmup_iters, lr_decay_iters, decay_lr } = schedule;
  if (!decay_lr) return learning_rate;
  if (iter < warmup_iters) return (learning_rate * (iter + 1)) / (warmup_iters + 1);
  if (iter > lr_decay_iters) return min_lr;
  const done = (iter - warmup_iters) / Math.max(1, lr_decay_iters - warmup_iters);
  return min_lr + 0.5 * (1 + Math.cos(Math.PI * done)) * (learning_rate - min_lr);
}
