// The optimizer that --optimizer names. To add one: a file beside this one, a line here, its name in lib/training/choices.ts and a
// row in docs/concepts/optimization.md.

import { UserError } from "../../common/errors.ts";
import type { OptimizerName } from "../choices.ts";
import { adafactor } from "./adafactor.ts";
import { type AdamWOptions, adamw } from "./adamw.ts";
import { lion } from "./lion.ts";
import { muon } from "./muon.ts";
import type { Optimizer } from "./optimizer.ts";
import { sgd } from "./sgd.ts";

export interface OptimizerOptions extends AdamWOptions {
  momentum: number; // of muon and sgd
}

const optimizers: Record<OptimizerName, (options: OptimizerOptions) => Optimizer> = {
  adamw,
  lion,
  muon,
  adafactor,
  sgd,
};

export const createOptimizer = (name: OptimizerName, options: OptimizerOptions): Optimizer => optimizers[name](options);

/**
 * A run must be resumed with the optimizer that it started with, whose state the checkpoint holds.
 * @param saved the settings in the run's checkpoint; early ones lack the key
 * @throws UserError for another one
 */
export function checkSameOptimizer(name: string, saved: Record<string, unknown>, outDir: string): void {
  const { optimizer = "adamw" } = saved;
  if (optimizer === name) return;
  throw new UserError(
    `the checkpoint in ${outDir} has the state of --optimizer=${optimizer}, not of ${name}; resume with that one, or ` +
      `start a new run from its weights: --init_from=${outDir} --out_dir=<another folder>`,
  );
}
