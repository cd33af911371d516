// What can be chosen of a model beyond GPT-2: every key, and GPT-2's own choice, which holds where none is given.
// docs/concepts/layers.md says more of each; lib/settings/rules.ts says which go together.

export interface Choices {
  /** "decoder" (GPT), "encoder" (each position sees all, BERT), "encoder_decoder" (a decoder that also sees a source) */
  architecture: string;
  tie_weights: boolean; // the token embeddings are the output layer too
  pos: string; // how it knows positions, one of position.ts
  rope_theta: number; // "rotary": how slowly the slowest channels turn
  rope_fraction: number; // and the share of a head's channels that turn
  relative_buckets: number; // "relative": of distances
  relative_max_distance: number; // and from where on all share the last one
  attention: string; // how it is computed: "auto" (in blocks of queries), "flash" (keeping nothing of them), "dense"
  attn_block_size: number; // queries of a block; 0 for 128
  n_kv_head: number; // heads of keys and values; 0 for n_head
  window: number; // positions that one sees, itself included; 0 for all before it
  attn_global: number; // and so many at the beginning
  attn_stride: number; // and every so manieth
  attn_stride_from: string; // counted from the "start" of the text, or back from the "query"
  attn_softcap: number; // attention scores stay below; 0 for no limit
  qk_norm: boolean; // normalise queries and keys
  n_hidden: number; // hidden units of the MLP; 0 for 4 n_embd, or 8/3 n_embd where it has a gate
  n_expert: number; // "moe": MLPs to choose from
  n_expert_active: number; // and how many of them a token has
  n_shared_hidden: number; // hidden units of one that every token has besides; 0 for none
  expert_capacity: number; // in training: what an expert takes at most, over its even share; 0 for all that come
  router_aux_coef: number; // of the loss that balances the experts, in training; 0 for none
  router_z_coef: number; // of the loss that keeps the router's logits small, in training; 0 for none
  norm: string; // one of norm.ts
  norm_position: string; // "pre" (before attention and MLP), "post" (after the sum), or "sandwich" (before, and before the sum)
  norm_eps: number;
  parallel_block: boolean; // attention and MLP side by side (GPT-J)
  parallel_norms: number; // and 1 norm for both, or 2 (GPT-NeoX)
  stochastic_depth: number; // chance that a sequence skips the last layer in training; earlier ones in proportion
  logit_softcap: number; // logits stay below; 0 for no limit
}

export const GPT2_CHOICES: Choices = {
  architecture: "decoder",
  tie_weights: true,
  pos: "learned",
  rope_theta: 10_000,
  rope_fraction: 1,
  relative_buckets: 32,
  relative_max_distance: 128,
  attention: "auto",
  attn_block_size: 0,
  n_kv_head: 0,
  window: 0,
  attn_global: 0,
  attn_stride: 0,
  attn_stride_from: "start",
  attn_softcap: 0,
  qk_norm: false,
  n_hidden: 0,
  n_expert: 8,
  n_expert_active: 2,
  n_shared_hidden: 0,
  expert_capacity: 0,
  router_aux_coef: 0.01,
  router_z_coef: 0.001,
  norm: "layernorm",
  norm_position: "pre",
  norm_eps: 1e-5,
  parallel_block: false,
  parallel_norms: 1,
  stochastic_depth: 0,
  logit_softcap: 0,
};

/** The settings that tell how something is computed, and not what: with others the model is the same. */
export const WAYS = ["attention", "attn_block_size"] as const;
