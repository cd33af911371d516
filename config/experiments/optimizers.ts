// Which learning rate suits each optimizer, and what do schedules and an EMA of the weights gain? With the same small model and number of
// steps as layers.ts, so that the losses are comparable.
// Run: npx tsx tools/experiment.ts run config/experiments/optimizers.ts

import type { OptimizerName, ScheduleName } from "../../lib/training/choices.ts";
import type { ExperimentSettings } from "../../tools/experiment/experiment_config.ts";
import layers from "./layers.ts";

/** The learning rate, and a tenth of it to end at. */
const rate = (learning_rate: number) => ({ learning_rate, min_lr: Number((learning_rate / 10).toPrecision(2)) });

const tried = (optimizer: OptimizerName, rates: readonly number[]) => rates.map((one) => ({ optimizer, ...rate(one) }));
const scheduled = (schedule: ScheduleName, ema = 0) => ({ schedule, ema, ...rate(1e-2) }); // adamw's

export default {
  name: "optimizers",
  base: layers.base,
  search: "list",
  list: [
    ...tried("adamw", [1e-3, 3e-3, 1e-2, 3e-2]),
    ...tried("lion", [3e-4, 1e-3, 3e-3, 1e-2]),
    ...tried("muon", [3e-3, 1e-2, 3e-2, 1e-1]),
    ...tried("adafactor", [1e-2, 5e-2, 2e-1]),
    ...tried("sgd", [3e-2, 1e-1, 3e-1, 1]),
    ...[scheduled("linear"), scheduled("wsd"), scheduled("constant")],
    ...[scheduled("cosine", 0.98), scheduled("constant", 0.98)],
  ],
  seeds: [1337, 1338, 1339],
  jobs: 2,
} satisfies ExperimentSettings;
