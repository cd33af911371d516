// Which model a run trains: the one that its settings say, or where it begins with other weights the one that they were
// made for, of which the settings may only change the context, as far as its positions allow, the dropout and how attention is
// computed. And how far another program may let it see.

import { pick, sourceOf } from "../configurator.ts";
import { datasetFile, datasetFolder, shownPath } from "../data/dataset.ts";
import { GPT2_META, GPT2_PADDED, listCharacters, type Meta } from "../data/meta.ts";
import { extraTokens } from "../data/objective.ts";
import { describeTokens, difference, knownTokens } from "../data/vocabulary.ts";
import { UserError } from "../engine/errors.ts";
import type { OpenedModel } from "../formats/pretrained.ts";
import { type FullConfig, GPT, GPT2_CHOICES } from "../model.ts";
import { WAYS } from "../nn/choices.ts";
import { shellWords } from "./scripts.ts";

/** The settings that make the model another one. */
export const MODEL_KEYS = [
  ...(["n_layer", "n_head", "n_embd", "block_size", "bias", "ffn"] as const),
  ...(Object.keys(GPT2_CHOICES) as (keyof typeof GPT2_CHOICES)[]),
];

type Settings = Pick<FullConfig, (typeof MODEL_KEYS)[number] | "dropout" | "vocab_size"> & {
  dataset: string;
  out_dir: string;
  vocab: string;
};

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
  const rows = await agree(config, meta, opened, resumes, log);
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
  if (rows) modelArgs.vocab_size = rows.length;
  return { modelArgs, crop, rows, tokens: tokensIn(meta, modelArgs) };
}

/** @throws UserError where meta.json has another vocab_size than the one that the user gave for folders without it */
function checkVocabSize(config: Settings, meta: Meta): void {
  const { dataset, vocab_size } = config;
  const source = sourceOf(config, "vocab_size");
  if (!source || vocab_size === meta.vocab_size || vocab_size === GPT2_PADDED) return;
  const path = shownPath(datasetFile(datasetFolder(dataset), "meta.json"));
  throw new UserError(
    `${path} says that there are ${meta.vocab_size} tokens; leave out vocab_size ${vocab_size} (${source}), ` +
      "which is for folders without one",
  );
}

/** How many tokens a new model knows: the dataset's and those of its architecture. */
function vocabularyFor(architecture: string | undefined, meta: Meta | undefined, padded: number): number {
  const own = (meta ?? GPT2_META).vocab_size + extraTokens(architecture);
  return meta ? own : Math.max(own, padded);
}

/** Without a meta.json a model's padding may have a meaning, too. */
function tokensIn(meta: Meta | undefined, { vocab_size, architecture }: FullConfig): number {
  return meta?.vocab_size ?? vocab_size - extraTokens(architecture);
}

/**
 * Does each token of the dataset mean to the weights what it means in the dataset?
 * @returns undefined where it does; else, by --vocab=extend, the rows of the tables that a model of the dataset's tokens takes
 * @throws UserError where it doesn't and nothing was said
 */
async function agree(
  config: Settings,
  meta: Meta | undefined,
  opened: OpenedModel,
  resumes: boolean,
  log: (line: string) => void,
): Promise<Int32Array | undefined> {
  const { dataset, vocab } = config;
  const { source, tokenizerMeta: known } = opened;
  const { vocab_size, architecture } = opened.modelArgs;
  const tokens = meta ?? GPT2_META;
  const extra = extraTokens(architecture);
  const place = shownPath(datasetFolder(dataset));
  const unsaid = meta ? "" : ` (${place} has no meta.json: for other tokens than GPT-2's say --vocab_size=N)`;

  // 1) weights of which no file says what their tokens mean
  if (!known) {
    if (tokens.kind === "gpt2" || tokens.vocab_size !== vocab_size - extra) {
      throw new UserError(
        `no file in ${source} says what its ${vocab_size} tokens mean, and dataset ${dataset} has ${describeTokens(tokens)}${unsaid}; ` +
          "if they are the same tokens, copy the dataset's meta.json into that folder",
      );
    }
    log(`no file in ${source} says what its tokens mean: they are taken for those of dataset ${dataset}`);
    return undefined;
  }

  // 2) the same tokens
  const differs = difference(known, tokens);
  if (!differs) {
    if (vocab_size < tokens.vocab_size + extra) {
      throw new UserError(
        `the model in ${source} knows ${vocab_size} tokens, dataset ${dataset} has ${tokens.vocab_size + extra}; ` +
          "take the dataset that it was trained on, or --init_from=scratch",
      );
    }
    if (resumes && !samePairs(known.pairs, tokens.pairs)) {
      throw new UserError(
        `the run in ${source} was trained on ${pairsInWords(known)}, dataset ${dataset} has ${pairsInWords(tokens)}; ` +
          `to train its weights on them: ${startCommand(config, source)}`,
      );
    }
    if (known.kind !== tokens.kind) {
      log(`no file says what the tokens of ${source} mean: they are taken for those of dataset ${dataset}`);
    }
    return undefined;
  }

  // 3) others
  const comparable = (known.kind === "ids") === (tokens.kind === "ids");
  if (resumes || vocab !== "extend" || !comparable) {
    throw new UserError(
      `the tokens of dataset ${dataset} mean something else to the model in ${source}: ${differs}${unsaid}; ` +
        otherTokensAdvice(config, source, tokens, resumes, comparable),
    );
  }
  const rows = new Int32Array(vocabularyFor(architecture, meta, config.vocab_size)).fill(-1);
  rows.set(await knownTokens(known, tokens));
  const kept = rows.filter((row) => row >= 0).length;
  const fresh = tokens.kind === "char" ? tokens.itos.filter((_, id) => rows[id]! < 0) : [];
  const named = fresh.length > 0 ? ` (${listCharacters(fresh)})` : "";
  log(
    `vocab extend: ${kept} of ${describeTokens(tokens)} keep their rows, ${tokens.vocab_size - kept} start anew${named}; ` +
      `${known.vocab_size - kept} of the model's are left out`,
  );
  if (extra > 0) rows[rows.length - 1] = vocab_size - 1; // what an encoder guesses is always the last
  return rows;
}

/** What to do where tokens differ. @param comparable whether any of the weights' tokens can be known to be the dataset's */
function otherTokensAdvice(
  config: Settings,
  source: string,
  tokens: Meta,
  resumes: boolean,
  comparable: boolean,
): string {
  if (!comparable)
    return "which of them are the same isn't known: take the dataset that it was trained on, or --init_from=scratch";
  if (!resumes) {
    return "take the dataset that it was trained on, or add --vocab=extend: the same tokens keep their rows, the others start anew";
  }
  const size =
    tokens.kind === "ids" && tokens.vocab_size === config.vocab_size ? [`--vocab_size=${tokens.vocab_size}`] : [];
  return `a run goes on with its own tokens; to train its weights on these: ${startCommand(config, source, ...size, "--vocab=extend")}`;
}

const samePairs = (a: Meta["pairs"], b: Meta["pairs"]) => a?.length === b?.length && a?.end === b?.end;

const pairsInWords = ({ pairs }: Meta) => (pairs ? `pairs of ${pairs.length} tokens` : "no pairs");

/** Begins another run with the weights of this one. */
function startCommand({ dataset, out_dir }: Settings, source: string, ...more: string[]): string {
  const words = [`--init_from=${source}`, `--dataset=${dataset}`, `--out_dir=${out_dir}-2`, ...more];
  return `npx tsx train.ts ${shellWords(words)}`;
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
