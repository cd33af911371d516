// The model that a run begins with, by --init_from: new, or with existing weights, which then decide its shape.

import { GPT } from "../../model.ts";
import { randomWeightsInPieces } from "../nn/init.ts";
import type { Meta } from "../text/meta.ts";
import { resumeFolder } from "../training/run_checkpoint.ts";
import { readExtended } from "./extend.ts";
import { checkTraining } from "./model_memory.ts";
import { chooseModel } from "./model_settings.ts";
import { type OpenedModel, openModel } from "./pretrained.ts";

type Settings = Parameters<typeof chooseModel>[0] & Parameters<typeof checkTraining>[1] & Start & { seed: number };

interface Start {
  init_from: string;
  out_dir: string;
}

/** Open the weights to begin with; undefined for "scratch". A resumed run continues from its weights themselves, others from their EMA.
 * @throws UserError if they can't be used */
export async function openWeights(
  { init_from, out_dir }: Start,
  log: (line: string) => void,
): Promise<OpenedModel | undefined> {
  if (init_from === "scratch") return undefined;
  return openModel(init_from, resumeFolder(out_dir), { log, average: init_from !== "resume" });
}

/**
 * Create a model for training with its weights: random ones, a function of config.seed, or those of `opened`.
 * @param meta of the dataset; undefined for GPT-2's tokens
 * @param opened the weights to begin with, if any
 * @returns the model, and the number of tokens that the dataset's files may contain
 * @throws UserError if the weights were trained on other tokens, or training doesn't fit into this machine's memory
 */
export async function beginModel(
  config: Settings,
  meta: Meta | undefined,
  opened: OpenedModel | undefined,
  log: (line: string) => void,
): Promise<{ model: GPT; tokens: number }> {
  const { modelArgs, rows, crop, tokens } = await chooseModel(config, meta, opened, config.init_from === "resume", log);
  checkTraining(modelArgs, config);
  const model = new GPT(modelArgs);
  if (opened && rows) await readExtended(opened, model, rows, config.seed);
  else if (opened) await opened.read(model);
  else await randomWeightsInPieces(model.parameters, config.seed);
  if (crop) model.cropBlockSize(config.block_size);
  return { model, tokens };
}
