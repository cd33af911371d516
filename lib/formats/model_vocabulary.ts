// The vocabulary of a run's model: the dataset's or, if it begins with existing weights, theirs. Each token must mean the same in both,
// unless --vocab=extend keeps the rows of those that do.

import { sourceOf } from "../../configurator.ts";
import type { GPTConfig } from "../../model.ts";
import { UserError } from "../common/errors.ts";
import { shellWords } from "../common/scripts.ts";
import { datasetFile, datasetFolder, shownPath } from "../text/dataset.ts";
import { GPT2_META, GPT2_PADDED, listCharacters, type Meta } from "../text/meta.ts";
import { describeTokens, difference, knownTokens } from "../text/vocabulary.ts";
import { extraTokens } from "../training/objective.ts";
import type { OpenedModel } from "./pretrained.ts";

export interface VocabularySettings {
  vocab_size: number;
  dataset: string;
  out_dir: string;
  vocab: string;
}

/** @throws UserError if the user gave a vocab_size that differs from meta.json's */
export function checkVocabSize(config: VocabularySettings, meta: Meta): void {
  const { dataset, vocab_size } = config;
  const source = sourceOf(config, "vocab_size");
  if (!source || vocab_size === meta.vocab_size || vocab_size === GPT2_PADDED) return;
  const path = shownPath(datasetFile(datasetFolder(dataset), "meta.json"));
  throw new UserError(
    `${path} says that there are ${meta.vocab_size} tokens; leave out vocab_size ${vocab_size} (${source}), ` +
      "which is for folders without one",
  );
}

/** The vocabulary size of a new model: the dataset's tokens and those of its architecture. */
export function vocabularyFor(architecture: string | undefined, meta: Meta | undefined, padded: number): number {
  const own = (meta ?? GPT2_META).vocab_size + extraTokens(architecture);
  return meta ? own : Math.max(own, padded);
}

/** Without a meta.json the padding of a vocabulary may be used, too. */
export function tokensIn(meta: Meta | undefined, { vocab_size, architecture }: GPTConfig): number {
  return meta?.vocab_size ?? vocab_size - extraTokens(architecture);
}

/**
 * Compare the tokens of the weights with the dataset's.
 * @returns undefined if they are the same; else, with --vocab=extend, the row of the old tables for each of the dataset's tokens
 * @throws UserError if they differ without --vocab=extend
 */
export async function rowsToTake(
  config: VocabularySettings,
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

  // 1) weights whose tokens are unknown
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

  // 3) different tokens
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
    `vocab extend: ${kept} of ${describeTokens(tokens)} keep their rows, ${tokens.vocab_size - kept} start fresh${named}; ` +
      `${known.vocab_size - kept} of the model's are left out`,
  );
  if (extra > 0) rows[rows.length - 1] = vocab_size - 1; // an encoder's mask token is always the last
  return rows;
}

/** Advice for different tokens. @param comparable can any of the weights' tokens be matched with the dataset's? */
function otherTokensAdvice(
  config: VocabularySettings,
  source: string,
  tokens: Meta,
  resumes: boolean,
  comparable: boolean,
): string {
  if (!comparable)
    return "which of them are the same isn't known: take the dataset that it was trained on, or --init_from=scratch";
  if (!resumes) {
    return "take the dataset that it was trained on, or add --vocab=extend: the same tokens keep their rows, the others start fresh";
  }
  const size =
    tokens.kind === "ids" && tokens.vocab_size === config.vocab_size ? [`--vocab_size=${tokens.vocab_size}`] : [];
  return `a resumed run keeps its own tokens; to train its weights on these: ${startCommand(config, source, ...size, "--vocab=extend")}`;
}

const samePairs = (a: Meta["pairs"], b: Meta["pairs"]) => a?.length === b?.length && a?.end === b?.end;

const pairsInWords = ({ pairs }: Meta) => (pairs ? `pairs of ${pairs.length} tokens` : "no pairs");

/** The command that starts another run with these weights. */
function startCommand({ dataset, out_dir }: VocabularySettings, source: string, ...more: string[]): string {
  const words = [`--init_from=${source}`, `--dataset=${dataset}`, `--out_dir=${out_dir}-2`, ...more];
  return `npx tsx train.ts ${shellWords(words)}`;
}
