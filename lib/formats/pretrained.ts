// Opens the model that --init_from names: this run's checkpoint, another run's, GPT-2 from the hub, or a folder in the format of
// Hugging Face's transformers or of nanoGPT. train.ts, sample.ts and tools/export.ts begin with it.

import { existsSync } from "node:fs";
import { join } from "node:path";
import type { GPT, GPTConfig } from "../../model.ts";
import { breathe } from "../common/breathe.ts";
import { UserError } from "../common/errors.ts";
import { didYouMean } from "../common/nearest.ts";
import { shellWords } from "../common/scripts.ts";
import type { FrozenOptions } from "../engine/runtime/frozen.ts";
import { checkMeta, GPT2_META, type Meta } from "../text/meta.ts";
import { createTokenizer, type Tokenizer } from "../text/tokenizer.ts";
import { loadCheckpoint, type Metadata } from "../training/checkpoint.ts";
import { EMA_PREFIX } from "../training/ema.ts";
import { extraTokens } from "../training/objective.ts";
import { checkModelArgs } from "./model_args.ts";
import { checkLoading } from "./model_memory.ts";
import type { Foreign, Weights } from "./weights.ts";

/** GPT-2's sizes, by the names of OpenAI's weights. */
export const GPT2_NAMES = ["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"];

export interface OpenedModel {
  /** Its origin, for messages: a folder or a name. */
  source: string;
  modelArgs: GPTConfig;
  /** The meaning of its tokens; undefined if no file has it and they can't be GPT-2's. */
  tokenizerMeta: Meta | undefined;
  /** Its tokenizer. @throws UserError if it is unknown, or belongs to another model */
  tokenizer(): Promise<Tokenizer>;
  /** The state of the run, if it is a checkpoint of ours. */
  metadata: Metadata | undefined;
  /** The weights (or their EMA), by the names of model.ts; a checkpoint of ours also holds the optimizer's state. */
  tensors: Weights;
  /** Fill the weights of a model created with `modelArgs`. @throws UserError if they don't fit into memory */
  read(model: GPT): Promise<void>;
  /** The same for a compiled decoder: the weights go straight from the file to the runtime, mapped if their format allows it. Keep
   * the model open meanwhile. @param dtype "float32" or "int8" */
  frozen(dtype: string): Pick<FrozenOptions, "int8" | "place" | "read">;
  close(): void;
}

/**
 * Open a model and check all that can be checked without reading its weights; the caller closes it.
 * @param initFrom "resume" for the checkpoint in `outDir`, a name of GPT-2, or a folder
 * @param options.average false for a run's weights themselves, even if its checkpoint has their EMA (--ema)
 * @throws UserError if there is none, or it can't be used
 */
export async function openModel(
  initFrom: string,
  outDir: string,
  { log = console.log, average = true }: { log?: (line: string) => void; average?: boolean } = {},
): Promise<OpenedModel> {
  const source = initFrom === "resume" ? outDir : initFrom;
  const { metadata, modelArgs, tokenizerMeta, tensors } = await open(initFrom, source, log, average);
  return {
    source,
    modelArgs,
    tokenizerMeta,
    async tokenizer() {
      if (!tokenizerMeta) throw new UserError(`${source} doesn't say what its tokens mean`);
      const known = modelArgs.vocab_size - extraTokens(modelArgs.architecture);
      if (tokenizerMeta.vocab_size > known) {
        const sizes = `${tokenizerMeta.vocab_size} tokens and the model ${known}`;
        throw new UserError(`${source}: its tokenizer has ${sizes}; it belongs to another model`);
      }
      return createTokenizer(tokenizerMeta, source);
    },
    metadata,
    tensors,
    async read(model) {
      checkLoading(modelArgs, `the model in ${source}`, "float32");
      for (const { name, shape, data } of model.parameters) {
        await breathe();
        tensors.read(name, shape, data);
      }
    },
    frozen(dtype) {
      checkLoading(modelArgs, `the model in ${source}`, dtype);
      return {
        int8: dtype === "int8",
        place: (name) => tensors.place(name),
        read: (name, shape, into) => tensors.read(name, shape, into),
      };
    },
    close: () => tensors.close(),
  };
}

/** @throws UserError if a model's architecture isn't one of those that `what` is for */
export function checkArchitecture({ source, modelArgs }: OpenedModel, what: string, ...known: string[]): void {
  const { architecture = "decoder" } = modelArgs;
  if (known.includes(architecture)) return;
  throw new UserError(
    `${what} is for the architecture ${known.join(" or ")}; the model of ${source} is an ${architecture}`,
  );
}

async function open(
  initFrom: string,
  source: string,
  log: (line: string) => void,
  average: boolean,
): Promise<Foreign & { metadata?: Metadata }> {
  const has = (name: string) => existsSync(join(source, name));
  if (GPT2_NAMES.includes(initFrom)) {
    const { hubFile } = await import("../text/hub.ts");
    const { openHuggingFace } = await import("./huggingface.ts");
    const repo = `openai-community/${initFrom}`;
    const [config, weights] = [await hubFile(repo, "config.json"), await hubFile(repo, "model.safetensors")];
    return openHuggingFace(config, weights, log);
  }
  if (initFrom === "resume" || has("ckpt.json")) {
    const opened = await openCheckpoint(source);
    if (!average || opened.metadata.ema_steps === undefined) return opened;
    log(`the weights in ${source} are taken as averaged over its steps (ema ${opened.metadata.config.ema})`);
    return { ...opened, tensors: averageOf(opened.tensors) };
  }
  if (has("config.json")) {
    const { openHuggingFace } = await import("./huggingface.ts");
    return openHuggingFace(join(source, "config.json"), source, log);
  }
  if (has("model_args.json")) {
    const { openNanoGPT } = await import("./nanogpt.ts");
    return openNanoGPT(source);
  }
  if (/\.(pt|bin|safetensors)$/.test(source) && existsSync(source)) {
    throw new UserError(
      `--init_from=${source} is a file; give a folder, see docs/guides/formats.md for how to make it`,
    );
  }
  const near = existsSync(source) ? undefined : didYouMean(initFrom, ["scratch", "resume", ...GPT2_NAMES]);
  if (near) throw new UserError(`no checkpoint in ${source}; ${near}`);
  throw new UserError(
    `no checkpoint in ${source} (no ckpt.json there), nor another program's model (config.json or model_args.json); ` +
      `--init_from may be resume, ${GPT2_NAMES.join(", ")}, or a folder that has one of these files`,
  );
}

/** The EMA in a checkpoint, by the names of the weights. */
function averageOf(tensors: Weights): Weights {
  return {
    read: (name, shape, into) => tensors.read(EMA_PREFIX + name, shape, into),
    place: (name) => tensors.place(EMA_PREFIX + name),
    close: () => tensors.close(),
  };
}

/**
 * The tokenizer of a model, for uses that need text.
 * @throws UserError if its tokens have none
 */
export async function textTokenizer(opened: OpenedModel, what: string): Promise<Tokenizer> {
  const tokenizer = await opened.tokenizer();
  if (tokenizer.meta.kind !== "ids") return tokenizer;
  throw new UserError(
    `${what} needs a text, and no file says what the tokens of ${opened.source} mean; to sample their numbers: ` +
      `npx tsx sample.ts --init_from=${shellWords([opened.source])} --start="1 2 3"`,
  );
}

/** A checkpoint of ours. */
async function openCheckpoint(directory: string): Promise<Foreign & { metadata: Metadata }> {
  const { metadata, tensors } = await loadCheckpoint(directory);
  try {
    const where = `the checkpoint in ${directory}`;
    const modelArgs = checkModelArgs(metadata.model_args, where);
    const advice = "use a checkpoint that was written by these scripts";
    const tokenizerMeta = metadata.tokenizer === null ? GPT2_META : checkMeta(metadata.tokenizer, where, advice);
    return { metadata, modelArgs, tokenizerMeta, tensors };
  } catch (error) {
    tensors.close();
    throw error;
  }
}
