// Checks the settings of a model in a checkpoint, which may have been edited.

import { type FullConfig, type GPTConfig, LAYER_CHOICES } from "../../model.ts";
import { UserError } from "../common/errors.ts";
import { currentSettings } from "../settings/renamed.ts";
import { findConflict, ruleFor } from "../settings/rules.ts";
import { show } from "../settings/show.ts";

/** A value of each setting's type; a setting that a checkpoint lacks is an error. */
const TYPES: FullConfig = {
  ...LAYER_CHOICES,
  block_size: 1,
  vocab_size: 1,
  n_layer: 1,
  n_head: 1,
  n_embd: 1,
  dropout: 0,
  bias: false,
  ffn: "gelu",
};

/** @throws UserError with `where` and the first setting that is missing or out of its range */
export function checkModelArgs(saved: Record<string, unknown>, where: string): GPTConfig {
  const modelArgs: Record<string, unknown> = { ...LAYER_CHOICES, ...currentSettings(saved) }; // early checkpoints lack the choices
  for (const [key, value] of Object.entries(TYPES)) {
    const issue = ruleFor(key, value).safeParse(modelArgs[key]).error?.issues[0];
    if (issue) throw new UserError(`${where}: model_args.${key} must be ${issue.message}, got ${show(modelArgs[key])}`);
  }
  const checked = Object.fromEntries(Object.keys(TYPES).map((key) => [key, modelArgs[key]]));
  const conflict = findConflict(checked as Record<string, number>);
  if (conflict) throw new UserError(`${where}: model_args: ${conflict.problem}`);
  return checked as unknown as GPTConfig;
}
