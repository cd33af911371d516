// Models in the format of Hugging Face's transformers: a folder with config.json and model.safetensors, or its shards. This file has
// the folder and GPT-2, whose weight names and [in, out] orientation are model.ts' own; llama.ts has Llama and its relatives. What
// config.json asks for and model.ts can't do is an error. Left out: weights in PyTorch's .bin files.

import { existsSync, mkdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import type { FullConfig, GPT, GPTConfig } from "../../model.ts";
import { jsonText, writeFileAtomic } from "../common/atomic.ts";
import { UserError } from "../common/errors.ts";
import { encodeSafetensors, type NamedTensor, openSafetensors, type Tensors } from "../common/safetensors.ts";
import { z } from "../common/zod.ts";
import type { ActivationName } from "../nn/choices.ts";
import { findConflict, rules } from "../settings/rules.ts";
import type { Meta } from "../text/meta.ts";
import { checkComputesGPT2 } from "./gpt2_check.ts";
import { LLAMA_KINDS, llamaFiles, llamaWeights, readLlamaConfig, unlikeLlama } from "./llama.ts";
import {
  checkIsGPT2,
  checkTensors,
  type Foreign,
  foreignNames,
  missingBiases,
  type NamedShape,
  parameterShapes,
  readSettings,
  tokenizerMetaOf,
  untieWhereOther,
  type Weights,
} from "./weights.ts";

const activations = foreignNames({
  gelu_new: "gelu_tanh",
  gelu_pytorch_tanh: "gelu_tanh",
  gelu_fast: "gelu_tanh",
  gelu: "gelu",
  relu: "relu",
  relu2: "relu2",
  silu: "silu",
  swish: "silu",
} satisfies Record<string, ActivationName>);

const only = <T extends string | number | boolean>(value: T) => z.literal(value, `${value}, the only one supported`);
const flag = z.boolean("true or false");

const KINDS = ["gpt2", ...LLAMA_KINDS] as const;
const Kind = z.object({ model_type: z.enum(KINDS, `one of ${KINDS.join(", ")}`) });

/** GPT-2's. */
const Config = z.object({
  n_layer: rules.n_layer,
  n_head: rules.n_head,
  n_embd: rules.n_embd,
  n_positions: z.optional(rules.block_size),
  n_ctx: z.optional(rules.block_size),
  vocab_size: rules.vocab_size,
  // defaults are those of the first GPT-2
  activation_function: z._default(activations.rule, "gelu_new"),
  resid_pdrop: z._default(rules.dropout, 0.1),
  layer_norm_epsilon: z._default(only(1e-5), 1e-5),
  n_inner: z._default(z.nullable(z.int("an integer or null")), null),
  scale_attn_weights: z._default(only(true), true),
  scale_attn_by_inverse_layer_idx: z._default(only(false), false),
  add_cross_attention: z._default(only(false), false),
  tie_word_embeddings: z._default(flag, true),
  bias: z._default(flag, true), // ours: false if all biases in the file are zero and to be left out
});

const PREFIX = "transformer.";
const HEAD = "lm_head.weight";
const BUFFERS = /^(transformer\.)?h\.\d+\.attn\.(bias|masked_bias)$/; // the causal mask, in files of older versions

/**
 * Open a model; the caller closes its `tensors`.
 * @param config the path of config.json; a meta.json of ours may be beside it
 * @param weights the .safetensors file, or the folder where it or its shards are
 * @throws UserError for the first thing that model.ts can't run, or the first contradiction between the files
 */
export function openHuggingFace(config: string, weights: string, log: (line: string) => void): Foreign {
  const kind = readSettings(config, Kind).model_type;
  const modelArgs = kind === "gpt2" ? readConfig(config) : readLlamaConfig(config, kind);
  const tokenizerMeta = tokenizerMetaOf(dirname(config), modelArgs.vocab_size);
  const has = (name: string) => existsSync(join(weights, name));
  if (has("pytorch_model.bin") && !has("model.safetensors") && !has("model.safetensors.index.json")) {
    throw new UserError(
      `${weights} has its weights in pytorch_model.bin; docs/guides/formats.md says how to convert them`,
    );
  }
  const tensors = openSafetensors(weights);
  try {
    const weightsOf = kind === "gpt2" ? gpt2Weights : llamaWeights;
    return { modelArgs, tokenizerMeta, tensors: weightsOf(tensors, config, modelArgs, log) };
  } catch (error) {
    tensors.close();
    throw error;
  }
}

function readConfig(path: string): GPTConfig {
  const config = readSettings(path, Config);
  const { n_layer, n_head, n_embd, vocab_size, n_inner, bias } = config;
  const block_size = config.n_positions ?? config.n_ctx;
  if (block_size === undefined)
    throw new UserError(`${path}: n_positions must be an integer of at least 1, got nothing`);
  if (n_inner !== null && n_inner !== 4 * n_embd) {
    throw new UserError(
      `${path}: n_inner must be null or 4 n_embd, ${4 * n_embd}, the only one supported, got ${n_inner}`,
    );
  }
  const conflict = findConflict({ n_embd, n_head });
  if (conflict) throw new UserError(`${path}: ${conflict.problem}`);
  const ffn = activations.ours(config.activation_function);
  const [dropout, tie_weights] = [config.resid_pdrop, config.tie_word_embeddings];
  return { block_size, vocab_size, n_layer, n_head, n_embd, dropout, bias, ffn, tie_weights };
}

function gpt2Weights(tensors: Tensors, config: string, modelArgs: GPTConfig, log: (line: string) => void): Weights {
  const prefix = [...tensors.entries.keys()].some((name) => name.startsWith(PREFIX)) ? PREFIX : "";
  const nameOf = (ours: string) => (ours === HEAD ? HEAD : prefix + ours.slice(PREFIX.length));
  checkWeights(tensors, config, modelArgs, nameOf, log);
  return {
    read: (name, shape, into) => tensors.read(nameOf(name), shape, into),
    place: (name) => tensors.place(nameOf(name)),
    close: () => tensors.close(),
  };
}

/** Check that all needed tensors are there, and no others. May find that the model is not tied. */
function checkWeights(
  tensors: Tensors,
  config: string,
  modelArgs: GPTConfig,
  nameOf: (ours: string) => string,
  log: (line: string) => void,
): void {
  function* named(shapes: Iterable<NamedShape>): Generator<NamedShape> {
    for (const [name, shape] of shapes) yield [nameOf(name), shape];
  }
  function* optional(): Generator<NamedShape> {
    yield* named(missingBiases(modelArgs));
    if (modelArgs.tie_weights) yield [HEAD, table];
  }
  const table = [modelArgs.vocab_size, modelArgs.n_embd];
  checkTensors(tensors, config, { wanted: named(parameterShapes(modelArgs)), optional: optional(), ignored: BUFFERS });

  for (const [name, shape] of named(missingBiases(modelArgs))) {
    if (!tensors.entries.has(name)) continue;
    const data = new Float32Array(shape[0]!);
    tensors.read(name, shape, data);
    if (data.some((number) => number !== 0)) {
      throw new UserError(`${tensors.path}: ${name} is not zero, but bias is false in ${config}`);
    }
  }
  untieWhereOther(tensors, modelArgs, HEAD, nameOf("transformer.wte.weight"), log);
}

/**
 * Write a model that transformers' AutoModelForCausalLM and AutoTokenizer load, and `openHuggingFace` bit for bit. config.json comes
 * last: it completes the folder.
 * @throws UserError if the model's layers are neither GPT-2's nor Llama's
 */
export async function writeHuggingFace(model: GPT, meta: Meta | undefined, directory: string): Promise<void> {
  const write = (name: string, ...parts: (string | Uint8Array)[]) => writeFileAtomic(join(directory, name), ...parts);
  const endOfText = meta?.kind === "gpt2" ? 50_256 : null;
  const { tensors, config } = isLlama(model.config) ? llamaFiles(model, endOfText) : gpt2Files(model, endOfText);
  mkdirSync(directory, { recursive: true });
  for (const name of ["config.json", "meta.json", ...TOKENIZER_FILES]) rmSync(join(directory, name), { force: true });

  write("model.safetensors", ...encodeSafetensors(tensors, { format: "pt" }));
  if (meta?.kind === "gpt2") {
    const { gpt2TokenizerFiles } = await import("./gpt2_tokenizer_files.ts");
    for (const [name, text] of Object.entries(gpt2TokenizerFiles(model.config.block_size))) write(name, text);
  }
  if (meta) write("meta.json", jsonText(meta));
  write("config.json", jsonText(config));
}

const TOKENIZER_FILES = ["vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"];

/** @throws UserError if a model with rotary positions has something that Llama and its relatives lack */
function isLlama(config: FullConfig): boolean {
  const other = unlikeLlama(config);
  if (other === undefined || config.pos !== "rotary") return other === undefined;
  throw new UserError(
    `hf is for the layers of GPT-2, Llama, Mistral and Qwen3; this model has pos rotary like Llama, but ${other}; ` +
      "export it as --format=onnx",
  );
}

interface Files {
  tensors: NamedTensor[];
  config: Record<string, unknown>;
}

/** For GPT2LMHeadModel. A model without biases gets biases of zero, as GPT-2 has no choice. */
function gpt2Files(model: GPT, endOfText: number | null): Files {
  const { config, parameters } = model;
  checkIsGPT2(config, "hf");
  const activation = activations.theirs(config.ffn);
  if (!activation) {
    throw new UserError(`hf is for GPT-2's layers, and this model has ffn ${config.ffn}; export it as --format=onnx`);
  }
  checkComputesGPT2(model, "hf");
  const zeros = [...missingBiases(config)].map(
    ([name, shape]): NamedTensor => ({ name, shape, data: new Float32Array(shape[0]!) }),
  );
  return { tensors: [...parameters, ...zeros], config: configOf(config, activation, endOfText) };
}

function configOf(config: FullConfig, activation_function: string, endOfText: number | null) {
  const { n_layer, n_head, n_embd, block_size, vocab_size, dropout, bias, tie_weights } = config;
  return {
    architectures: ["GPT2LMHeadModel"],
    model_type: "gpt2",
    activation_function,
    ...{ n_layer, n_head, n_embd, n_positions: block_size, n_ctx: block_size, vocab_size, n_inner: null },
    ...{ resid_pdrop: dropout, embd_pdrop: dropout, attn_pdrop: dropout },
    ...{ layer_norm_epsilon: 1e-5, initializer_range: 0.02 },
    ...{ bos_token_id: endOfText, eos_token_id: endOfText, tie_word_embeddings: tie_weights },
    bias,
  };
}
