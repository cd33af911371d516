// The choices of a model: every layer choice beyond GPT-2, with GPT-2's value and a remark for --help; train.ts and bench.ts spread
// them into their defaults. The names of each choice are declared here too: rules, help and the benchmark of layers derive from them.
// docs/concepts/layers.md explains each; lib/settings/rules.ts has which go together. Imports nothing, so that settings can be read
// without tfjs.

export const ARCHITECTURES = ["decoder", "encoder", "encoder_decoder"] as const;
export const ACTIVATIONS = ["gelu", "gelu_tanh", "relu", "relu2", "silu"] as const;
export const GATED = ["swiglu", "geglu", "geglu_tanh"] as const;
export const FEED_FORWARDS = [...ACTIVATIONS, ...GATED, "moe"] as const;
export const POSITIONS = ["learned", "sinusoidal", "rotary", "alibi", "relative", "none"] as const;
export const ATTENTIONS = ["auto", "recompute", "dense"] as const;
export const STRIDES_FROM = ["start", "query"] as const;
export const NORMS = ["layernorm", "rmsnorm"] as const;
export const NORM_POSITIONS = ["pre", "post", "sandwich"] as const;

export type Architecture = (typeof ARCHITECTURES)[number];
export type ActivationName = (typeof ACTIVATIONS)[number];
export type GatedName = (typeof GATED)[number];
export type FeedForwardName = (typeof FEED_FORWARDS)[number];
export type PositionName = (typeof POSITIONS)[number];
export type AttentionName = (typeof ATTENTIONS)[number];
export type StrideFrom = (typeof STRIDES_FROM)[number];
export type NormName = (typeof NORMS)[number];
export type NormPosition = (typeof NORM_POSITIONS)[number];

export const LAYER_CHOICES = {
  // layer choices beyond GPT-2 (docs/concepts/layers.md)
  architecture: "decoder" as Architecture, // "decoder" (GPT), "encoder" (BERT: predicts masked tokens), "encoder_decoder" (the decoder also attends to a source)
  pos: "learned" as PositionName, // position encoding
  rope_theta: 10_000, // rotary: base of the wavelengths
  rope_fraction: 1, // rotary: share of a head's channels that are rotated
  relative_buckets: 32, // relative: buckets of distances
  relative_max_distance: 128, // relative: from here on all distances share the last bucket
  attention: "auto" as AttentionName, // implementation: over chunks of queries ("auto", or "recompute" in the backward pass: memory linear in length), or "dense"
  attn_chunk: 0, // queries in a chunk; 0 for 128
  n_kv_head: 0, // heads of keys and values, for grouped-query attention; 0 for n_head, 1 for multi-query attention
  window: 0, // sliding window in tokens, including the current one; 0 for full causal attention
  attn_global: 0, // with a window: this many tokens at the start are seen by all
  attn_stride: 0, // with a window: also every k-th token (strided attention); 0 for none
  attn_stride_from: "start" as StrideFrom, // counted from the "start", or back from the "query"
  attn_softcap: 0, // soft cap of attention scores; 0 for none
  qk_norm: false, // normalise queries and keys
  n_hidden: 0, // hidden units of the MLP; 0 for 4 n_embd, or 8/3 n_embd if gated
  n_expert: 8, // moe: experts, "swiglu" MLPs with n_hidden units each
  n_expert_active: 2, // moe: experts for each token
  n_shared_hidden: 0, // moe: hidden units of a shared expert, which every token has; 0 for none
  expert_capacity_factor: 0, // moe: capacity factor in training, such as 1.25; tokens beyond an expert's capacity are dropped; 0 for dropless
  router_aux_coef: 0.01, // moe: weight of the load-balancing loss, in training only; 0 for none
  router_z_coef: 0.001, // moe: weight of the router z-loss, in training only; 0 for none
  norm: "layernorm" as NormName, // normalisation
  norm_position: "pre" as NormPosition, // "pre" (before attention and MLP), "post" (after the sum), "sandwich" (before, and before the sum)
  norm_eps: 1e-5, // added to the variance
  parallel_block: false, // attention and MLP side by side
  parallel_norms: 1, // with it: one norm for both, or 2
  stochastic_depth: 0, // chance that a sequence skips the last layer in training; earlier ones in proportion
  tie_weights: true, // the token embeddings are the output layer too
  logit_softcap: 0, // soft cap of logits; 0 for none
};
export type Choices = typeof LAYER_CHOICES;

/** The names of each choice, by setting. */
export const NAMES = {
  architecture: ARCHITECTURES,
  attention: ATTENTIONS,
  attn_stride_from: STRIDES_FROM,
  ffn: FEED_FORWARDS,
  norm: NORMS,
  norm_position: NORM_POSITIONS,
  pos: POSITIONS,
} as const;

/** All of a model's settings. */
export interface ModelConfig extends Choices {
  block_size: number; // the longest context, in tokens
  vocab_size: number;
  n_layer: number;
  n_head: number;
  n_embd: number;
  dropout: number;
  bias: boolean; // in linear layers and layer norms, as GPT-2 has; without is a little faster and as good
  ffn: FeedForwardName; // "gelu", "gelu_tanh" as in OpenAI's GPT-2, or another of feed_forward.ts
}

/** Settings of how something is computed, not what: they don't change the model. */
export const IMPLEMENTATION_KEYS = ["attention", "attn_chunk"] as const;

/** A stack of blocks: causal, bidirectional, or causal with cross-attention to a source. */
export type BlockRole = "decoder" | "encoder" | "crossing";

/** The role of a model's last stack, by `architecture`. */
export const roles: Readonly<Record<Architecture, BlockRole>> = {
  decoder: "decoder",
  encoder: "encoder",
  encoder_decoder: "crossing", // after an encoder
};

/** @throws Error for an unknown name or conflicting numbers. lib/settings/rules.ts has better messages for users, earlier. */
export function checkChoices(config: ModelConfig): void {
  const { n_embd, n_head, n_kv_head, ffn, n_expert, n_expert_active } = config;
  for (const [key, known] of Object.entries(NAMES)) {
    const name = config[key as keyof typeof NAMES];
    if (!(known as readonly string[]).includes(name)) throw new Error(`no ${key} ${name}`);
  }
  if (n_embd % n_head !== 0) throw new Error(`n_embd ${n_embd} can't be split among ${n_head} heads`);
  if (n_head % (n_kv_head || 1) !== 0) throw new Error("n_kv_head doesn't divide n_head");
  if (ffn === "moe" && n_expert_active > n_expert) throw new Error("n_expert_active > n_expert");
}
