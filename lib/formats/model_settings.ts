// The shape of the model that a run trains: by its settings or, if it begins with existing weights, theirs. Then settings may change
// only the context, as far as its positions allow, dropout, and how attention is computed. Also the context of a model in use.
// Left out: the vocabulary (model_vocabulary.ts).

import { pick, sourceOf } from "../../configurator.ts";
import { type FullConfig, GPT, LAYER_CHOICES } from "../../model.ts";
import { UserError } from "../common/errors.ts";
import { IMPLEMENTATION_KEYS } from "../nn/choices.ts";
import type { Meta } from "../text/meta.ts";
import { checkVocabSize, rowsToTake, tokensIn, type VocabularySettings, vocabularyFor } from "./model_vocabulary.ts";
import type { OpenedModel } from "./pretrained.ts";

/** The settings that define the model. */
export const MODEL_KEYS = [
  ...(["n_layer", "n_head", "n_embd", "block_size", "bias", "ffn"] as const),
  ...(Object.keys(LAYER_CHOICES) as (keyof typeof LAYER_CHOICES)[]),
];

type Settings = Pick<FullConfig, (typeof MODEL_KEYS)[number] | "dropout"> & VocabularySettings;

/** The model that a run trains. */
export interface Chosen {
  modelArgs: FullConfig;
  /** Must its context be cropped to config.block_size once the weights are read? */
  crop: boolean;
  /** If its vocabulary differs from that of the weights: the row for each of its tokens, -1 for a new one. */
  rows: Int32Array | undefined;
  /** The number of tokens that the dataset's files may contain. */
  tokens: number;
}

/**
 * @param meta of the dataset; undefined for GPT-2's tokens
 * @param opened the weights to begin with, if any
 * @param resumes are they the run's own?
 * @throws UserError if the weights were trained on other tokens than the dataset's, unless config.vocab is "extend"
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

/** Are the positions a table of weights? */
const hasTable = (pos = "learned") => pos === "learned";

/**
 * A model with a context of `context` tokens, which may differ from training's; without its weights.
 * @param context 0 for training's
 * @throws UserError if there are no positions for that many
 */
export function modelWithContext({ source, modelArgs }: OpenedModel, context: number): GPT {
  const { block_size, pos } = modelArgs;
  if (context > block_size && hasTable(pos)) {
    throw new UserError(
      `the model in ${source} has learned ${block_size} positions, and no others; lower --context=${context}`,
    );
  }
  const model = new GPT(hasTable(pos) ? modelArgs : { ...modelArgs, block_size: context || block_size });
  model.config.block_size = context || block_size; // the rest of a table is unused
  return model;
}
