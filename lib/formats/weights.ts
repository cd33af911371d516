// Shared by the readers of other programs' weights: the weights that a model needs, the check that a file has exactly these, and the
// JSON beside it. Everything is checked before a model is created: a wrong file costs neither memory nor time.

import { existsSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { type FullConfig, type GPTConfig, LAYER_CHOICES } from "../../model.ts";
import { UserError } from "../common/errors.ts";
import { printable } from "../common/printable.ts";
import { readJson } from "../common/read_file.ts";
import type { Place, Tensors } from "../common/safetensors.ts";
import { sizeOf } from "../common/shape.ts";
import { z } from "../common/zod.ts";
import { activations } from "../nn/activation.ts";
import { type FeedForwardName, IMPLEMENTATION_KEYS } from "../nn/choices.ts";
import { checkMeta, GPT2_META, type Meta } from "../text/meta.ts";

/** The weights of a model in a file, by the names of model.ts. */
export interface Weights {
  /** Read a weight into an array of its length. */
  read(name: string, shape: readonly number[], into: Float32Array): void;
  /** Where the weight is stored as float32 in our orientation; undefined if it must be converted. */
  place(name: string): Place | undefined;
  close(): void;
}

/** An opened model of another program. */
export interface Foreign {
  modelArgs: GPTConfig;
  /** The meaning of its tokens; undefined if no file has it and they can't be GPT-2's. */
  tokenizerMeta: Meta | undefined;
  tensors: Weights;
}

export type NamedShape = readonly [name: string, shape: readonly number[]];

/** Another program's names of `Ours`; the first of each of ours is the one that is written. */
export function foreignNames<Theirs extends string, Ours extends FeedForwardName>(
  table: Readonly<Record<Theirs, Ours>>,
) {
  const names = Object.keys(table) as Theirs[];
  return {
    rule: z.enum(names, `one of ${names.join(", ")}`),
    ours: (name: Theirs): Ours => table[name],
    theirs: (ours: FeedForwardName): Theirs | undefined => names.find((name) => table[name] === ours),
  };
}

/**
 * The config with settings that have no effect outside of training at GPT-2's defaults: those of training alone, how attention is
 * computed, and details of choices that aren't used.
 */
export function withUnusedAtDefault(config: FullConfig): FullConfig {
  const { pos, ffn, n_kv_head, n_head, n_hidden, n_embd, attn_stride, parallel_block } = config;
  const idle: (keyof FullConfig)[] = [...IMPLEMENTATION_KEYS, "stochastic_depth", "expert_capacity_factor"];
  idle.push("router_aux_coef", "router_z_coef");
  if (pos !== "rotary") idle.push("rope_theta", "rope_fraction");
  if (pos !== "relative") idle.push("relative_buckets", "relative_max_distance");
  if (ffn !== "moe") idle.push("n_expert", "n_expert_active", "n_shared_hidden");
  if (n_kv_head === n_head) idle.push("n_kv_head");
  if (n_hidden === 4 * n_embd && Object.hasOwn(activations, ffn)) idle.push("n_hidden");
  if (attn_stride === 0) idle.push("attn_stride_from");
  if (!parallel_block) idle.push("parallel_norms");
  return { ...config, ...Object.fromEntries(idle.map((key) => [key, LAYER_CHOICES[key as "pos"]])) };
}

/** @throws UserError if the model has a layer that `format` can't express */
export function checkIsGPT2(given: FullConfig, format: string): void {
  const config = withUnusedAtDefault(given);
  for (const [key, choice] of Object.entries(LAYER_CHOICES)) {
    const value = config[key as keyof FullConfig];
    if (key === "tie_weights" || value === choice) continue;
    throw new UserError(
      `${format} is for GPT-2's layers, and this model has ${key} ${value}; export it as --format=onnx`,
    );
  }
}

/** Every weight that `new GPT(config)` has, in its order, without the memory for it. */
export function* parameterShapes(config: GPTConfig): Generator<NamedShape> {
  const { vocab_size: V, block_size: T, n_layer, n_embd: C, bias, tie_weights } = config;
  function* layer(name: string, shape: number[]): Generator<NamedShape> {
    yield [`transformer.${name}.weight`, shape];
    if (bias) yield [`transformer.${name}.bias`, shape.slice(-1)];
  }
  yield ["transformer.wte.weight", [V, C]];
  yield ["transformer.wpe.weight", [T, C]];
  for (let i = 0; i < n_layer; i++) {
    yield* layer(`h.${i}.ln_1`, [C]);
    yield* layer(`h.${i}.attn.c_attn`, [C, 3 * C]);
    yield* layer(`h.${i}.attn.c_proj`, [C, C]);
    yield* layer(`h.${i}.ln_2`, [C]);
    yield* layer(`h.${i}.mlp.c_fc`, [C, 4 * C]);
    yield* layer(`h.${i}.mlp.c_proj`, [4 * C, C]);
  }
  yield* layer("ln_f", [C]);
  if (tie_weights === false) yield ["lm_head.weight", [V, C]];
}

/** Is this the matrix of a linear layer, which some keep as [in, out] and others as [out, in]? */
export const isLinear = (name: string) => /\.c_\w+\.weight$/.test(name);

/** The biases of layers that `config` makes without. */
export function* missingBiases(config: GPTConfig): Generator<NamedShape> {
  if (config.bias) return;
  for (const tensor of parameterShapes({ ...config, bias: true })) if (tensor[0].endsWith(".bias")) yield tensor;
}

/**
 * The file has each of the `wanted` tensors, in floats and in the right shape, perhaps the `optional` ones, and no others
 * than those whose name is `ignored`.
 * @throws UserError that names the first one that is missing, too much or misshapen
 */
export function checkTensors(
  tensors: Tensors,
  settings: string, // the file that the shapes are from
  {
    wanted,
    optional = [],
    ignored,
  }: { wanted: Iterable<NamedShape>; optional?: Iterable<NamedShape>; ignored: RegExp },
): void {
  const known = new Set<string>();
  const check = ([name, shape]: NamedShape, required: boolean) => {
    known.add(name);
    const entry = tensors.entries.get(name);
    if (!entry && required) throw new UserError(`${tensors.path} has no tensor ${name}, which ${settings} asks for`);
    if (!entry) return;
    const found = `${tensors.path} has ${name} as ${entry.dtype} [${entry.shape}]`;
    if (!["F32", "F16", "BF16", "F64"].includes(entry.dtype)) throw new UserError(`${found}, not as floats`);
    if (String(entry.shape) !== String(shape)) throw new UserError(`${found}; ${settings} asks for [${shape}]`);
  };
  for (const tensor of wanted) check(tensor, true); // a generator: ends at the first that is missing, however many follow
  for (const tensor of optional) check(tensor, false);
  for (const name of tensors.entries.keys()) {
    if (known.has(name) || ignored.test(name)) continue;
    throw new UserError(`${tensors.path} has a tensor ${JSON.stringify(name)}, for which ${settings} has no place`);
  }
}

/** Are two tensors of this file the same numbers? */
export function sameNumbers(tensors: Tensors, a: string, b: string, shape: readonly number[]): boolean {
  const [first, second] = [a, b].map((name) => {
    const data = new Float32Array(sizeOf(shape));
    tensors.read(name, shape, data);
    return Buffer.from(data.buffer);
  });
  return first!.equals(second!);
}

/** An output layer `head` in the file of a tied model: dropped where it is the token embeddings, else the model is not tied,
 * which is what transformers makes of it since its version 5. */
export function untieWhereOther(
  tensors: Tensors,
  modelArgs: GPTConfig,
  head: string,
  embeddings: string,
  log: (line: string) => void,
): void {
  if (!modelArgs.tie_weights || !tensors.entries.has(head)) return;
  if (sameNumbers(tensors, head, embeddings, [modelArgs.vocab_size, modelArgs.n_embd])) return;
  log(`${head} is not the token embeddings, so it stays apart, whatever tie_word_embeddings says`);
  modelArgs.tie_weights = false;
}

/** [R, C] -> [C, R], in tiles that stay in the cache. Either may be columns of a wider matrix, whose width is then given. */
export function transpose(
  from: Float32Array,
  [R, C]: readonly [number, number],
  into: Float32Array,
  { fromWidth = C, intoWidth = R } = {},
): void {
  const SIDE = 32;
  for (let top = 0; top < R; top += SIDE) {
    for (let left = 0; left < C; left += SIDE) {
      const [bottom, right] = [Math.min(top + SIDE, R), Math.min(left + SIDE, C)];
      for (let r = top; r < bottom; r++) {
        for (let c = left; c < right; c++) into[c * intoWidth + r] = from[r * fromWidth + c]!;
      }
    }
  }
}

/** A JSON file, checked; a UserError says which key must be what. The schema's messages complete "must be ...". */
export function readSettings<T extends z.ZodMiniType>(path: string, schema: T): z.infer<T> {
  const json = readAny(path);
  if (json === undefined) throw new UserError(`no ${basename(path)} in ${dirname(path)}`);
  const { error, data } = schema.safeParse(json);
  const [issue] = error?.issues ?? [];
  if (!issue) return data as z.infer<T>;
  const [key] = issue.path;
  if (key === undefined) throw new UserError(`${path} must hold an object of settings`);
  const value = printable(JSON.stringify((json as Record<PropertyKey, unknown>)[key]) ?? "nothing", 80);
  throw new UserError(`${path}: ${String(key)} must be ${issue.message}, got ${value}`);
}

/** Undefined if there is no such file. */
const readAny = (path: string): unknown => readJson(path, z.unknown(), (why) => new UserError(`${path}: ${why}`));

/** What a model's tokens mean: what meta.json in its folder says; without one GPT-2's, where the vocabulary has room for
 * them and no tokenizer of another program there has others. */
export function tokenizerMetaOf(folder: string, vocab_size: number): Meta | undefined {
  const path = join(folder, "meta.json");
  const json = readAny(path);
  if (json === undefined) {
    return vocab_size >= GPT2_META.vocab_size && !hasOtherTokens(folder) ? GPT2_META : undefined;
  }
  const meta = checkMeta(json, path, "mend it or take it away");
  if (meta.vocab_size > vocab_size) {
    throw new UserError(`${path} has ${meta.vocab_size} tokens, but the model in its folder ${vocab_size}`);
  }
  return meta;
}

/** Does a tokenizer of Hugging Face's lie in this folder that is not GPT-2's? Asked for a few tokens only. */
function hasOtherTokens(folder: string): boolean {
  return ["vocab.json", "tokenizer.json"].some((name) => {
    const path = join(folder, name);
    if (!existsSync(path)) return false;
    const json = readAny(path) as { model?: { vocab?: unknown } } | null;
    const vocab = (name === "vocab.json" ? json : json?.model?.vocab) as Record<string, unknown> | null | undefined;
    return vocab?.Ġt !== 256 || vocab.Ġthe !== 262 || vocab.Ġgazed !== 50_255;
  });
}
