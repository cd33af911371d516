// Which model a run trains: the one that its settings say, or where it begins with other weights the one that they were
// made for, of which the settings may only change the context, as far as its positions allow, the dropout and how attention is
// computed. And how far another program may let it see. Left out: whose tokens it knows (model_vocabulary.ts).

import { pick, sourceOf } from "../../configurator.ts";
import { type FullConfig, GPT, LAYER_CHOICES } from "../../model.ts";
import { UserError } from "../common/errors.ts";
import { IMPLEMENTATION_KEYS } from "../nn/choices.ts";
import type { Meta } from "../text/meta.ts";
import { checkVocabSize, rowsToTake, tokensIn, type VocabularySettings, vocabularyFor } from "./model_vocabulary.ts";
import type { OpenedModel } from "./pretrained.ts";

/** The settings that make the model another one. */
export const MODEL_KEYS = [
  ...(["n_layer", "n_head", "n_embd", "block_size", "bias", "ffn"] as const),
  ...(Object.keys(LAYER_CHOICES) as (keyof typeof LAYER_CHOICES)[]),
];

type Settings = Pick<FullConfig, (typeof MODEL_KEYS)[number] | "dropout"> & VocabularySettings;

/** The model that a run trains. */
export interface Chosen {
  modelArgs: FullConfig;
  /** Is its context to be cropped to config.block_size once the weights are read? */
  crop: boolean;
  /** Where its vocabulary is another than that of the weights: whose row each of its tokens takes, -1 for a new one. */
  rows: Int32Array | undefined;
  /** Tokens from here on mean nothing in the dataset's files. */
  tokens: number;
}

/**
 * @param meta of the dataset; undefined for GPT-2's tokens
 * @param opened the weights to begin with, if there are some
 * @param resumes whether they are the run's own
 * @throws UserError where the tokens mean something else to the weights than in the dataset, unless config.vocab says "extend"
 */
export async function chooseModel(
  config: Settings,
  meta: Meta | undefined,
  opened: OpenedModel | undefined,
  resumes: boolean,
  log: (line: string) => void,
): Promise<Chosen> {
  const { block_size, dropout } = config;
  if (meta) checkVocabSize(config, meta);
  const vocab_size = vocabularyFor(config.architecture, meta, config.vocab_size);
  const modelArgs: FullConfig = { ...pick(config, MODEL_KEYS), vocab_size, dropout };
  if (!opened) {
    log("Initializing a new model from scratch");
    return { modelArgs, crop: false, rows: undefined, tokens: tokensIn(meta, modelArgs) };
  }
  const { source, modelArgs: saved } = opened;
  const rows = await rowsToTake(config, meta, opened, resumes, log);
  log(`${resumes ? "Resuming training from" : "Initializing with the weights of"} ${source}`);
  const fits = block_size < saved.block_size || !hasTable(saved.pos);
  const resized = !resumes && fits && sourceOf(config, "block_size") !== undefined;
  const ways = IMPLEMENTATION_KEYS.some((key) => sourceOf(config, key)) ? pick(config, IMPLEMENTATION_KEYS) : {};
  for (const key of MODEL_KEYS) {
    if (Object.hasOwn(ways, key)) continue;
    if (saved[key] === config[key] || !sourceOf(config, key) || (resized && key === "block_size")) continue;
    log(`${key} is ${saved[key]}, as in the checkpoint (${config[key]} by ${sourceOf(config, key)})`);
  }
  Object.assign(modelArgs, saved, { dropout, ...ways });
  const crop = resized && hasTable(saved.pos);
  if (resized && !crop) modelArgs.block_size = block_size;
  if (rows) modelArgs.vocab_size = rows.length;
  return { modelArgs, crop, rows, tokens: tokensIn(meta, modelArgs) };
}

/** Does each position of a context have its own weights? */
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
