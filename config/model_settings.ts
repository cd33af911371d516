// Which model a run trains: the one that its settings say, or where it begins with other weights the one that they were
// made for, of which the settings may only change the context, as far as its positions allow, the dropout and how attention is
// computed. And how far another program may let it see.

import { pick, sourceOf } from "../configurator.ts";
import { datasetFolder, shownPath } from "../data/dataset.ts";
import { GPT2_META, type Meta } from "../data/meta.ts";
import { extraTokens } from "../data/objective.ts";
import { UserError } from "../engine/errors.ts";
import type { OpenedModel } from "../formats/pretrained.ts";
import { type FullConfig, GPT, GPT2_CHOICES } from "../model.ts";
import { WAYS } from "../nn/choices.ts";

/** The settings that make the model another one. */
export const MODEL_KEYS = [
  ...(["n_layer", "n_head", "n_embd", "block_size", "bias", "ffn"] as const),
  ...(Object.keys(GPT2_CHOICES) as (keyof typeof GPT2_CHOICES)[]),
];

type Settings = Pick<FullConfig, (typeof MODEL_KEYS)[number] | "dropout"> & { dataset: string };

/**
 * @param meta of the dataset; undefined for GPT-2's tokens
 * @param opened the weights to begin with, if there are some
 * @param resumes whether they are the run's own
 * @returns the model's settings, and whether its context is to be cropped to config.block_size once the weights are read
 * @throws UserError where the weights know fewer tokens than the dataset has
 */
export function chooseModel(
  config: Settings,
  meta: Meta | undefined,
  opened: OpenedModel | undefined,
  resumes: boolean,
  log: (line: string) => void,
): { modelArgs: FullConfig; crop: boolean } {
  const { dataset, block_size, dropout } = config;
  const vocab_size = meta ? meta.vocab_size + extraTokens(config.architecture) : 50_304; // GPT-2's 50,257, up to a multiple of 64
  const modelArgs: FullConfig = { ...pick(config, MODEL_KEYS), vocab_size, dropout };
  if (!opened) {
    log("Initializing a new model from scratch");
    const folder = shownPath(datasetFolder(dataset));
    if (!meta) log(`no meta.json in ${folder}: vocab_size is ${vocab_size}, for GPT-2's tokens`);
    return { modelArgs, crop: false };
  }
  const { source, modelArgs: saved } = opened;
  log(`${resumes ? "Resuming training from" : "Initializing with the weights of"} ${source}`);
  const fits = block_size < saved.block_size || !hasTable(saved.pos);
  const resized = !resumes && fits && sourceOf(config, "block_size") !== undefined;
  const ways = WAYS.some((key) => sourceOf(config, key)) ? pick(config, WAYS) : {};
  for (const key of MODEL_KEYS) {
    if (Object.hasOwn(ways, key)) continue;
    if (saved[key] === config[key] || !sourceOf(config, key) || (resized && key === "block_size")) continue;
    log(`${key} is ${saved[key]}, as in the checkpoint (${config[key]} by ${sourceOf(config, key)})`);
  }
  Object.assign(modelArgs, saved, { dropout, ...ways });
  const crop = resized && hasTable(saved.pos);
  if (resized && !crop) modelArgs.block_size = block_size;
  const tokens = (meta ?? GPT2_META).vocab_size + extraTokens(modelArgs.architecture);
  if (modelArgs.vocab_size < tokens) {
    throw new UserError(
      `the model in ${source} knows ${modelArgs.vocab_size} tokens, dataset ${dataset} has ${tokens}; ` +
        "take the dataset that it was trained on, or --init_from=scratch",
    );
  }
  return { modelArgs, crop };
}

/** Has each position of a context weights of its own? */
const hasTable = (pos = "learned") => pos === "learned";

/**
 * A model that sees `context` tokens, of a shape that was trained with others; without its weights.
 * @param context 0 for as many as in training
 * @throws UserError where there are no positions for so many
 */
export function modelWithContext({ source, modelArgs }: OpenedModel, context: number): GPT {
  const { block_size, pos } = modelArgs;
  if (context > block_size && hasTable(pos)) {
    throw new UserError(
      `the model in ${source} has learned ${block_size} positions, and no others; lower --context=${context}`,
    );
  }
  const model = new GPT(hasTable(pos) ? modelArgs : { ...modelArgs, block_size: context || block_size });
  model.config.block_size = context || block_size; // of a table the rest is idle
  return model;
}
