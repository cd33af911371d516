// Llama, Mistral and Qwen3 in the format of Hugging Face's transformers: their settings, and their weights by our names. Their linear
// layers are [out, in], ours [in, out], and queries, keys and values have separate matrices. Left out: scaled rotary positions
// (rope_scaling), heads of another size than n_embd / n_head, and windows in some layers only.

import { type FullConfig, type GPT, type GPTConfig, LAYER_CHOICES } from "../../model.ts";
import { UserError } from "../common/errors.ts";
import type { NamedTensor, Tensors } from "../common/safetensors.ts";
import { sizeOf } from "../common/shape.ts";
import { z } from "../common/zod.ts";
import type { GatedName } from "../nn/choices.ts";
import { findConflict, rules } from "../settings/rules.ts";
import {
  checkTensors,
  foreignNames,
  isLinear,
  type NamedShape,
  readSettings,
  transpose,
  untieWhereOther,
  type Weights,
  withUnusedAtDefault,
} from "./weights.ts";

export const LLAMA_KINDS = ["llama", "mistral", "qwen3"] as const;
export type LlamaKind = (typeof LLAMA_KINDS)[number];

/** Their names of the gate's activation, and our `ffn`. */
const gates = foreignNames({
  silu: "swiglu",
  swish: "swiglu",
  gelu: "geglu",
  gelu_pytorch_tanh: "geglu_tanh",
  gelu_new: "geglu_tanh",
} satisfies Record<string, GatedName>);

/** Our settings that all three share; they differ in FREE, and everything else is as in GPT-2. */
const LLAMA = { pos: "rotary", rope_fraction: 1, norm: "rmsnorm", norm_position: "pre" } satisfies Partial<GPTConfig>;
const FREE: readonly string[] = ["n_kv_head", "n_hidden", "window", "qk_norm", "norm_eps", "tie_weights", "rope_theta"];

// ---- settings ----

const flag = z.boolean("true or false");
const orNull = <T extends z.ZodMiniType>(rule: T) => z._default(z.nullable(rule), null);

const PLAIN = "positions as they are, rope_type default, the only ones supported";
const Rope = z.strictObject(
  {
    rope_type: z.optional(z.literal("default", PLAIN)),
    type: z.optional(z.literal("default", PLAIN)), // its older name
    rope_theta: z.optional(rules.rope_theta),
    partial_rotary_factor: z.optional(z.literal(1, PLAIN)),
  },
  PLAIN,
);
const LAYER_TYPES = ["full_attention", "sliding_attention"] as const;
const LAYERS = `a list of ${LAYER_TYPES.join(" or ")}`;

const Config = z.object({
  hidden_size: rules.n_embd,
  num_hidden_layers: rules.n_layer,
  num_attention_heads: rules.n_head,
  intermediate_size: rules.n_embd,
  max_position_embeddings: rules.block_size,
  vocab_size: rules.vocab_size,
  // defaults are transformers'
  num_key_value_heads: z.optional(z.nullable(rules.n_head)),
  head_dim: z.optional(z.nullable(rules.n_embd)),
  hidden_act: z._default(gates.rule, "silu"),
  rms_norm_eps: z._default(rules.norm_eps, 1e-6),
  rope_theta: orNull(rules.rope_theta),
  rope_scaling: orNull(Rope),
  rope_parameters: orNull(Rope), // both of them, since transformers 5
  partial_rotary_factor: orNull(z.literal(1, "1, the only one supported")),
  attention_bias: z._default(flag, false),
  mlp_bias: z._default(flag, false),
  attention_dropout: z._default(rules.dropout, 0),
  tie_word_embeddings: z._default(flag, false),
  sliding_window: z.optional(z.nullable(rules.block_size)),
  use_sliding_window: z._default(flag, false),
  max_window_layers: z._default(rules.window, 28),
  layer_types: orNull(z.array(z.enum(LAYER_TYPES, LAYERS), LAYERS)),
});
type Settings = z.infer<typeof Config>;

/** @throws UserError for the first setting of config.json that model.ts can't do */
export function readLlamaConfig(path: string, kind: LlamaKind): GPTConfig {
  const theirs = readSettings(path, Config);
  const { hidden_size: n_embd, num_attention_heads: n_head, attention_bias, mlp_bias } = theirs;
  const must = (key: keyof Settings, what: string) =>
    new UserError(`${path}: ${key} must be ${what}, got ${JSON.stringify(theirs[key]) ?? "nothing"}`);

  if (theirs.num_key_value_heads === undefined && kind !== "llama") throw must("num_key_value_heads", "given");
  const K = theirs.num_key_value_heads ?? n_head;
  const n_kv_head = K === n_head ? 0 : K;
  const conflict = findConflict({ ...LLAMA, n_embd, n_head, n_kv_head });
  if (conflict) throw new UserError(`${path}: ${conflict.problem}`);
  const D = n_embd / n_head;
  if ((theirs.head_dim ?? (kind === "qwen3" ? 128 : D)) !== D) {
    throw must("head_dim", `hidden_size / num_attention_heads, ${D}, the only one supported`);
  }
  if (kind === "llama" && attention_bias !== mlp_bias) {
    throw must("mlp_bias", `${attention_bias} like attention_bias: all linear layers have biases here, or none`);
  }
  if (kind === "qwen3" && attention_bias) throw must("attention_bias", "false, as the MLP has no biases");
  return {
    ...LLAMA,
    ...{ block_size: theirs.max_position_embeddings, vocab_size: theirs.vocab_size },
    ...{ n_layer: theirs.num_hidden_layers, n_head, n_kv_head, n_embd, n_hidden: theirs.intermediate_size },
    ...{ dropout: theirs.attention_dropout, bias: kind === "llama" && attention_bias },
    ...{ ffn: gates.ours(theirs.hidden_act), tie_weights: theirs.tie_word_embeddings },
    rope_theta: theirs.rope_parameters?.rope_theta ?? theirs.rope_scaling?.rope_theta ?? theirs.rope_theta ?? 10_000,
    window: windowOf(theirs, kind, path),
    qk_norm: kind === "qwen3",
    norm_eps: theirs.rms_norm_eps,
  };
}

/** Sliding window in tokens, including the current one; 0 for all. */
function windowOf(theirs: Settings, kind: LlamaKind, path: string): number {
  const { sliding_window = 4096, num_hidden_layers: layers } = theirs;
  if (kind === "llama" || sliding_window === null) return 0;
  if (kind === "mistral") return sliding_window;
  const isSliding = (i: number) =>
    theirs.layer_types
      ? theirs.layer_types[i] === "sliding_attention"
      : theirs.use_sliding_window && i >= theirs.max_window_layers;
  const sliding = isSliding(0);
  if (isSliding(layers - 1) !== sliding || theirs.layer_types?.some((_, i) => isSliding(i) !== sliding)) {
    throw new UserError(
      `${path}: a window is for all layers here, or for none; layer_types or max_window_layers differ`,
    );
  }
  return sliding && theirs.use_sliding_window ? sliding_window : 0;
}

// ---- weights ----

const PREFIX = "model.";
const HEAD = "lm_head.weight";
const BUFFERS = /^(model\.)?layers\.\d+\.self_attn\.rotary_emb\.inv_freq$/; // in files of older versions

/** Each of our weights with the tensors it is made of: side by side, [out, in] if it is the matrix of a linear layer. */
function* layout(config: FullLlama, prefix = PREFIX): Generator<readonly [ours: string, parts: NamedShape[]]> {
  const { n_layer, n_head: H, n_embd: C, n_hidden: F, vocab_size: V, bias, qk_norm, tie_weights } = config;
  const D = C / H;
  const kv = (config.n_kv_head || H) * D;
  function* linear(ours: string, parts: readonly (readonly [name: string, out: number])[], input: number) {
    yield [`${ours}.weight`, parts.map(([name, out]) => [`${name}.weight`, [out, input]])] as [string, NamedShape[]];
    if (bias) yield [`${ours}.bias`, parts.map(([name, out]) => [`${name}.bias`, [out]])] as [string, NamedShape[]];
  }
  yield ["transformer.wte.weight", [[`${prefix}embed_tokens.weight`, [V, C]]]];
  for (let i = 0; i < n_layer; i++) {
    const [ours, theirs] = [`transformer.h.${i}`, `${prefix}layers.${i}`];
    const [attn, mlp] = [`${theirs}.self_attn`, `${theirs}.mlp`];
    const qkv = [[`${attn}.q_proj`, C] as const, [`${attn}.k_proj`, kv] as const, [`${attn}.v_proj`, kv] as const];
    yield [`${ours}.ln_1.weight`, [[`${theirs}.input_layernorm.weight`, [C]]]];
    yield* linear(`${ours}.attn.c_attn`, qkv, C);
    yield* linear(`${ours}.attn.c_proj`, [[`${attn}.o_proj`, C]], C);
    if (qk_norm) {
      yield [`${ours}.attn.q_norm.weight`, [[`${attn}.q_norm.weight`, [D]]]];
      yield [`${ours}.attn.k_norm.weight`, [[`${attn}.k_norm.weight`, [D]]]];
    }
    yield [`${ours}.ln_2.weight`, [[`${theirs}.post_attention_layernorm.weight`, [C]]]];
    yield* linear(`${ours}.mlp.c_gate`, [[`${mlp}.gate_proj`, F]], C);
    yield* linear(`${ours}.mlp.c_fc`, [[`${mlp}.up_proj`, F]], C);
    yield* linear(`${ours}.mlp.c_proj`, [[`${mlp}.down_proj`, C]], F);
  }
  yield ["transformer.ln_f.weight", [[`${prefix}norm.weight`, [C]]]];
  if (tie_weights === false) yield [HEAD, [[HEAD, [V, C]]]];
}

/** What `layout` needs; n_hidden is not 0. */
type FullLlama = GPTConfig & { n_hidden: number };

/**
 * The weights by our names. May find that the model is not tied.
 * @param config the path of config.json, the source of `modelArgs`
 * @throws UserError for the first tensor that is missing, unexpected or of a wrong shape
 */
export function llamaWeights(
  tensors: Tensors,
  config: string,
  modelArgs: GPTConfig,
  log: (line: string) => void,
): Weights {
  const prefix = [...tensors.entries.keys()].some((name) => name.startsWith(PREFIX)) ? PREFIX : "";
  const table = [modelArgs.vocab_size, modelArgs.n_embd];
  const layers = () => layout(modelArgs as FullLlama, prefix);
  function* wanted(): Generator<NamedShape> {
    for (const [, parts] of layers()) yield* parts;
  }
  const optional: NamedShape[] = modelArgs.tie_weights ? [[HEAD, table]] : [];
  checkTensors(tensors, config, { wanted: wanted(), optional, ignored: BUFFERS });
  untieWhereOther(tensors, modelArgs, HEAD, `${prefix}embed_tokens.weight`, log);

  const parts = new Map(layers());
  return {
    read(name, shape, into) {
      let at = 0; // the part's first column
      for (const [theirs, theirShape] of parts.get(name)!) {
        const size = sizeOf(theirShape);
        if (isLinear(name)) {
          const piece = new Float32Array(size); // [out, in]
          tensors.read(theirs, theirShape, piece);
          transpose(piece, theirShape as [number, number], into.subarray(at), { intoWidth: shape[1]! });
        } else tensors.read(theirs, theirShape, into.subarray(at, at + size));
        at += theirShape[0]!;
      }
    },
    place(name) {
      const [first, ...others] = parts.get(name)!;
      return isLinear(name) || others.length > 0 ? undefined : tensors.place(first![0]);
    },
    close: () => tensors.close(),
  };
}

// ---- writing ----

/** The first setting that Llama and its relatives can't have; undefined if none. */
export function unlikeLlama(given: FullConfig): string | undefined {
  const config = withUnusedAtDefault(given);
  for (const [key, choice] of Object.entries({ ...LAYER_CHOICES, ...LLAMA })) {
    const value = config[key as keyof FullConfig];
    if (!FREE.includes(key) && value !== choice) return `${key} ${value}`;
  }
  if (gates.theirs(config.ffn) === undefined) return `ffn ${config.ffn}`;
  if (!config.bias) return undefined;
  return config.qk_norm ? "bias and qk_norm" : config.window > 0 ? "bias and a window" : undefined;
}

/** The tensors and config.json of a model with Llama's layers. Needs the memory of the linear layers once more. */
export function llamaFiles(
  { config, parameters, transformer }: GPT,
  endOfText: number | null,
): { tensors: NamedTensor[]; config: Record<string, unknown> } {
  if (transformer.blocks[0]!.attn.isEdited) {
    throw new UserError("hf is for Llama's attention, and model.ts has another one now; export it as --format=onnx");
  }
  const byName = new Map(parameters.map((parameter) => [parameter.name, parameter]));
  const n_hidden = byName.get("transformer.h.0.mlp.c_fc.weight")!.shape[1]!;
  const tensors: NamedTensor[] = [];
  for (const [name, parts] of layout({ ...config, n_hidden })) {
    const { data, shape: ours } = byName.get(name)!;
    let at = 0;
    for (const [theirs, shape] of parts) {
      const size = sizeOf(shape);
      let part = data.subarray(at, at + size);
      if (isLinear(name)) {
        const [out, input] = shape as [number, number];
        part = new Float32Array(size);
        transpose(data.subarray(at), [input, out], part, { fromWidth: ours[1]! });
      }
      tensors.push({ name: theirs, shape, data: part });
      at += shape[0]!;
    }
  }
  return { tensors, config: configOf({ ...config, n_hidden }, endOfText) };
}

function configOf(config: FullConfig, endOfText: number | null): Record<string, unknown> {
  const { n_embd, n_head, n_layer, window, rope_theta, bias } = config;
  const kind: LlamaKind = config.qk_norm ? "qwen3" : window > 0 ? "mistral" : "llama";
  const special = {
    llama: { attention_bias: bias, mlp_bias: bias },
    mistral: { sliding_window: window },
    qwen3: {
      attention_bias: false,
      ...{
        use_sliding_window: window > 0,
        sliding_window: window || null,
        max_window_layers: window > 0 ? 0 : n_layer,
      },
      layer_types: Array.from({ length: n_layer }, () => LAYER_TYPES[window > 0 ? 1 : 0]),
    },
  };
  return {
    architectures: [{ llama: "LlamaForCausalLM", mistral: "MistralForCausalLM", qwen3: "Qwen3ForCausalLM" }[kind]],
    model_type: kind,
    ...{ vocab_size: config.vocab_size, max_position_embeddings: config.block_size },
    ...{ hidden_size: n_embd, intermediate_size: config.n_hidden, num_hidden_layers: n_layer },
    ...{ num_attention_heads: n_head, num_key_value_heads: config.n_kv_head || n_head, head_dim: n_embd / n_head },
    hidden_act: gates.theirs(config.ffn),
    ...{ rms_norm_eps: config.norm_eps, initializer_range: 0.02, attention_dropout: config.dropout },
    ...{ rope_theta, rope_parameters: { rope_type: "default", rope_theta } }, // before transformers 5, and since
    ...special[kind],
    ...{ bos_token_id: endOfText, eos_token_id: endOfText, tie_word_embeddings: config.tie_weights },
  };
}
