// The optimizer that --optimizer names. A choice more is a file beside this one, a line here, its name in lib/training/choices.ts
// and a row in docs/concepts/optimization.md.

import { UserError } from "../../common/errors.ts";
import type { Engine } from "../../engine/runtime/program.ts";
import type { OptimizerName } from "../choices.ts";
import { Adafactor } from "./adafactor.ts";
import { AdamW, type AdamWOptions, type Groups, type Optimizer } from "./adamw.ts";
import { Lion } from "./lion.ts";
import { Muon } from "./muon.ts";
import { SGD } from "./sgd.ts";

export interface OptimizerOptions extends AdamWOptions {
  momentum: number; // of muon and sgd
}

type Maker = (groups: Groups, options: OptimizerOptions, engine: Engine) => Optimizer | Promise<Optimizer>;

const makers: Record<OptimizerName, Maker> = {
  adamw: (groups, options) => new AdamW(groups, options),
  lion: (groups, options) => new Lion(groups, options),
  muon: (groups, options, engine) => Muon.create(groups, options, engine),
  adafactor: (groups, options) => new Adafactor(groups, options),
  sgd: (groups, options) => new SGD(groups, options),
};

/** Make an optimizer without state. @param engine for those that compute more than a loop */
export async function createOptimizer(
  name: OptimizerName,
  groups: Groups,
  options: OptimizerOptions,
  engine: Engine,
): Promise<Optimizer> {
  return makers[name](groups, options, engine);
}

/**
 * A run is resumed with the optimizer that it was begun with: the state of another one says nothing to it.
 * @param saved the settings in the run's checkpoint; one without the key is from before there was a choice
 * @throws UserError where it is another one
 */
export function checkSameOptimizer(name: string, saved: Record<string, unknown>, outDir: string): void {
  const { optimizer = "adamw" } = saved;
  if (optimizer === name) return;
  throw new UserError(
    `the checkpoint in ${outDir} has the state of --optimizer=${optimizer}, not of ${name}; resume with that one, or ` +
      `start anew from its weights: --init_from=${outDir} --out_dir=<another folder>`,
  );
}
