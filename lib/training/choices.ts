// The choices of training: names of optimizers and schedules, and their settings beyond AdamW's, each with its default and a remark
// for --help. train.ts and bench.ts spread them in; rules, help and the benchmark of layers derive from the names. Imports nothing.

/** lib/training/optimizers/create.ts makes them, docs/concepts/optimization.md compares them. */
export const OPTIMIZERS = ["adamw", "lion", "muon", "adafactor", "sgd"] as const;
export type OptimizerName = (typeof OPTIMIZERS)[number];

/** The curves of lib/training/schedule.ts. */
export const SCHEDULES = ["cosine", "linear", "wsd", "constant"] as const;
export type ScheduleName = (typeof SCHEDULES)[number];

export const OPTIMIZER_CHOICES = {
  // optimizer (docs/concepts/optimization.md)
  optimizer: "adamw" as OptimizerName, // muon uses adamw for all but hidden matrices
  momentum: 0.95, // of muon and sgd
};

export const SCHEDULE_CHOICES = {
  // learning rate schedule
  schedule: "cosine" as ScheduleName, // after the warmup, down to min_lr unless constant
  cooldown_fraction: 0.2, // last part of lr_decay_iters in which wsd (warmup, stable, decay) decays
};
