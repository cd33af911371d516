// A GPT language model, whole: the layers from the smallest to the largest, how they start and how they are counted.
// Plain TensorFlow.js, in the shapes and with the weight names of GPT-2 (Radford et al.
// 2019; github.com/openai/gpt-2). train.ts trains it, decoding/ draws text from it; which machinery runs it is none of
// its business.
//
// Letters of shapes: B batch, T time (positions), C channels (n_embd), H heads, D = C / H channels a head, V vocabulary.

import * as tf from "@tensorflow/tfjs";

import { causalAttention, joinHeads, splitHeads } from "./nn/attention.ts";
import { AttentionVariant, isPlain } from "./nn/attention_variant.ts";
import { cachedAttention, type LayerCache } from "./nn/cached_attention.ts";
import { crossEntropy } from "./nn/cross_entropy.ts";
import { dropLayer, dropout, type MaskSource } from "./nn/dropout.ts";
import { embedding } from "./nn/embedding.ts";
import { type FeedForward, feedForwards } from "./nn/feed_forward.ts";
import { linear } from "./nn/linear.ts";
import { Linear, Scope } from "./nn/module.ts";
import { type Norm, norms } from "./nn/norm.ts";
import { Parameter } from "./nn/parameter.ts";
import { Learned, type Position, type Positions, positions } from "./nn/position.ts";
import { recompute } from "./nn/recompute.ts";
import { routerLosses } from "./nn/routing.ts";
import { tap } from "./nn/tap.ts";

export interface GPTConfig {
  block_size: number; // the longest context, in tokens
  vocab_size: number;
  n_layer: number;
  n_head: number;
  n_embd: number;
  dropout: number;
  bias: boolean; // in linear layers and layer norms, as GPT-2 has; without is a little faster and no worse
  ffn: string; // one of nn/feed_forward.ts: "gelu", or "gelu_tanh" as GPT-2 has
  tie_weights?: boolean; // the token embeddings are the output layer too, unless false
  // what GPT-2 didn't choose from; as it is there where it isn't given
  pos?: string; // how it knows positions, one of nn/position.ts
  rope_theta?: number; // "rotary": how slowly the slowest channels turn
  rope_fraction?: number; // and the share of a head's channels that turn
  relative_buckets?: number; // "relative": of distances
  relative_max_distance?: number; // and from where on all share the last one
  n_kv_head?: number; // heads of keys and values; 0 for n_head
  window?: number; // positions that one sees, itself included; 0 for all before it
  attn_global?: number; // and so many at the beginning
  attn_stride?: number; // and every so manieth
  attn_softcap?: number; // attention scores stay below; 0 for no limit
  qk_norm?: boolean; // normalise queries and keys
  n_hidden?: number; // hidden units of the MLP; 0 for 4 n_embd, or 8/3 n_embd where it has a gate
  n_expert?: number; // "moe": MLPs to choose from
  n_expert_active?: number; // and how many of them a token has
  n_shared_hidden?: number; // hidden units of one that every token has besides; 0 for none
  router_aux_coef?: number; // of the loss that balances the experts, in training; 0 for none
  router_z_coef?: number; // of the loss that keeps the router's logits small, in training; 0 for none
  norm?: string; // one of nn/norm.ts
  norm_position?: string; // "pre" (before attention and MLP), "post" (after the sum), or "sandwich" (before, and before the sum)
  norm_eps?: number;
  parallel_block?: boolean; // attention and MLP side by side (GPT-J)
  stochastic_depth?: number; // chance that a sequence skips the last layer in training; earlier ones in proportion
  logit_softcap?: number; // logits stay below; 0 for no limit
}

/** GPT-2's choices. */
export const GPT2_CHOICES = {
  tie_weights: true,
  ...{ pos: "learned", rope_theta: 10_000, rope_fraction: 1, relative_buckets: 32, relative_max_distance: 128 },
  ...{ n_kv_head: 0, window: 0, attn_global: 0, attn_stride: 0, attn_softcap: 0, qk_norm: false },
  ...{ n_expert: 8, n_expert_active: 2, n_shared_hidden: 0, router_aux_coef: 0.01, router_z_coef: 0.001 },
  ...{ n_hidden: 0, norm: "layernorm", norm_position: "pre", norm_eps: 1e-5, parallel_block: false },
  ...{ stochastic_depth: 0, logit_softcap: 0 },
} satisfies Partial<GPTConfig>;
export type FullConfig = Required<GPTConfig>;

/** Projections that add to the residual stream start smaller, so that its variance doesn't grow with depth (GPT-2). */
const residualDeviation = (config: FullConfig) => 0.02 / Math.sqrt(2 * config.n_layer);

export class CausalSelfAttention {
  readonly config: FullConfig;
  readonly cAttn: Linear; // query, key and value of all heads in one product
  readonly cProj: Linear;
  readonly variant: AttentionVariant | undefined; // where it isn't GPT-2's

  constructor(scope: Scope, config: FullConfig, position: Position) {
    const { n_embd: C, n_head: H, bias } = config;
    const K = config.n_kv_head || H;
    this.config = config;
    this.cAttn = new Linear(scope.at("c_attn"), C, C + (2 * K * C) / H, bias);
    this.cProj = new Linear(scope.at("c_proj"), C, C, bias, residualDeviation(config));
    if (!isPlain(config, position)) this.variant = new AttentionVariant(scope, config, position);
  }

  /** [B, T, C] at `positions` -> [B, T, C]. With a cache they also see those in it. */
  forward(x: tf.Tensor, positions: Positions, mask?: MaskSource, cache?: LayerCache): tf.Tensor {
    const { n_head: H, dropout: rate } = this.config;
    const qkv = tap("qkv", this.cAttn.forward(x)); // [B, T, 3C]
    if (this.variant) {
      return dropout(this.cProj.forward(this.variant.forward(qkv, positions, mask, cache)), rate, mask);
    }
    if (cache) return this.cProj.forward(cachedAttention(qkv, H, cache));
    const [query, key, value] = splitHeads(qkv, H); // [B * H, T, D] each
    const joined = joinHeads(causalAttention(query, key, value, rate, mask), H);
    return dropout(this.cProj.forward(joined), rate, mask);
  }
}

export class Block {
  readonly ln1: Norm;
  readonly attn: CausalSelfAttention;
  readonly ln2: Norm | undefined;
  readonly mlp: FeedForward;
  readonly post: [Norm, Norm] | undefined; // of a sandwich: of what attention and MLP add
  readonly config: FullConfig;
  readonly skip: number; // chance to skip each of the two, in training

  /** @param depth from above 0 for the first to 1 for the last */
  constructor(scope: Scope, config: FullConfig, position: Position, depth: number) {
    this.skip = config.stochastic_depth * depth;
    const norm = (name: string) => newNorm(scope.at(name), config);
    this.config = config;
    this.ln1 = norm("ln_1");
    this.attn = new CausalSelfAttention(scope.at("attn"), config, position);
    this.ln2 = config.parallel_block ? undefined : norm("ln_2");
    this.mlp = new feedForwards[config.ffn]!(scope.at("mlp"), config, residualDeviation(config));
    this.post = config.norm_position === "sandwich" ? [norm("ln_1_post"), norm("ln_2_post")] : undefined;
  }

  /** [B, T, C] -> [B, T, C]. A mixture of experts adds its router's logits to `routers`. */
  forward(
    x: tf.Tensor,
    positions: Positions,
    mask?: MaskSource,
    cache?: LayerCache,
    routers: tf.Tensor[] = [],
  ): tf.Tensor {
    const onRoute = (logits: tf.Tensor) => routers.push(logits);
    const attend = (x: tf.Tensor) => dropLayer(this.attn.forward(x, positions, mask, cache), this.skip, mask);
    const think = (x: tf.Tensor) =>
      dropLayer(dropout(this.mlp.forward(x, onRoute), this.config.dropout, mask), this.skip, mask);
    return tap(
      "block",
      this.config.norm_position === "pre" ? this.pre(x, attend, think) : this.other(x, attend, think),
    );
  }

  /** GPT-2's order, and GPT-J's. */
  private pre(x: tf.Tensor, attend: Sublayer, think: Sublayer): tf.Tensor {
    const normal = this.ln1.forward(x);
    const attended = tf.add(x, attend(normal));
    return tf.add(attended, think(this.ln2 ? this.ln2.forward(attended) : normal));
  }

  private other(x: tf.Tensor, attend: Sublayer, think: Sublayer): tf.Tensor {
    const [ln1, ln2] = [this.ln1, this.ln2!];
    if (!this.post) {
      const attended = ln1.forward(tf.add(x, attend(x))); // Vaswani et al. 2017
      return ln2.forward(tf.add(attended, think(attended)));
    }
    const [post1, post2] = this.post; // Gemma 2
    const attended = tf.add(x, post1.forward(attend(ln1.forward(x))));
    return tf.add(attended, post2.forward(think(ln2.forward(attended))));
  }
}

type Sublayer = (x: tf.Tensor) => tf.Tensor;

const newNorm = (scope: Scope, { norm, n_embd, bias, norm_eps }: FullConfig) =>
  new norms[norm]!(scope, n_embd, bias, norm_eps);

export class GPT {
  config: FullConfig;
  readonly parameters: Parameter[] = [];
  readonly wte: Parameter; // [V, C]: token embeddings
  readonly position: Position;
  readonly blocks: Block[];
  readonly lnF: Norm | undefined;
  readonly lmHead: Parameter; // [V, C]: the output layer; wte itself unless untied (Press and Wolf 2017)

  /** All weights at their start but the random ones, which are 0 until `initWeights` or until a checkpoint is loaded. */
  constructor(given: GPTConfig) {
    const config: FullConfig = { ...GPT2_CHOICES, ...given };
    const { vocab_size: V, n_embd: C } = config;
    if (C % config.n_head !== 0) throw new Error(`n_embd ${C} can't be split among ${config.n_head} heads`);
    if (config.n_head % (config.n_kv_head || 1) !== 0) throw new Error("n_kv_head doesn't divide n_head");
    if (!Object.hasOwn(feedForwards, config.ffn)) throw new Error(`no ffn ${config.ffn}`);
    if (config.ffn === "moe" && config.n_expert_active > config.n_expert) throw new Error("n_expert_active > n_expert");
    if (!Object.hasOwn(positions, config.pos)) throw new Error(`no pos ${config.pos}`);
    if (!Object.hasOwn(norms, config.norm)) throw new Error(`no norm ${config.norm}`);
    this.config = config;
    const root = new Scope(this.parameters);
    const scope = root.at("transformer");
    this.wte = scope.at("wte").parameter("weight", [V, C], { normal: 0.02 });
    this.position = new positions[config.pos]!(scope, config);
    this.blocks = Array.from({ length: config.n_layer }, (_, i) => {
      return new Block(scope.at(`h.${i}`), config, this.position, (i + 1) / config.n_layer);
    });
    this.lnF = config.norm_position === "post" ? undefined : newNorm(scope.at("ln_f"), config);
    this.lmHead = config.tie_weights ? this.wte : root.at("lm_head").parameter("weight", [V, C], { normal: 0.02 });
  }

  /** The position embeddings [block_size, C], where there are such. */
  get wpe(): Parameter | undefined {
    return this.position instanceof Learned ? this.position.table : undefined;
  }

  /** Draw the random weights. `fillNormal(array, name, deviation)` fills one, by the weight's name. */
  initWeights(fillNormal: (out: Float32Array, name: string, deviation: number) => void): void {
    for (const { name, init, data } of this.parameters) {
      if ("normal" in init) fillNormal(data, name, init.normal);
    }
  }

  /** Token ids [B, T] -> what the last layer makes of each position [B, T, C]. With `routers` the logits of each layer's
   * router [B, T, E] are added to them. */
  forward(ids: tf.Tensor, mask?: MaskSource, routers?: tf.Tensor[]): tf.Tensor {
    const T = ids.shape[1]!;
    const { block_size } = this.config;
    if (T > block_size) throw new Error(`${T} tokens don't fit into block_size ${block_size}`);
    return this.layers(ids, T, mask, undefined, routers);
  }

  /** Token ids [B, T] at `positions` -> [B, T, C]. */
  private layers(
    ids: tf.Tensor,
    positions: Positions,
    mask?: MaskSource,
    caches?: readonly LayerCache[],
    routers?: tf.Tensor[],
  ): tf.Tensor {
    let x = embedding(this.wte.value, ids);
    if (this.position.embed) x = tf.add(x, this.position.embed(positions));
    x = dropout(x, this.config.dropout, mask);
    for (const [i, block] of this.blocks.entries()) {
      x = recompute(block, [x], mask, ([x], mask) => {
        const logits: tf.Tensor[] = [];
        const result = block.forward(x!, positions, mask, caches?.[i], logits);
        return routers ? tf.concat([result, ...logits], -1) : result; // it has one result: [B, T, C + E]
      });
      if (!routers) continue;
      const { n_embd: C, n_expert: E } = this.config;
      const [result, logits] = tf.split(x, [C, E], -1) as [tf.Tensor, tf.Tensor];
      routers.push(logits);
      x = result;
    }
    return this.lnF ? this.lnF.forward(x) : x;
  }

  /** Token ids [B, T] -> logits [B, T, V] of the token that follows each position. */
  logits(ids: tf.Tensor): tf.Tensor {
    return this.head(this.forward(ids));
  }

  /** The output layer: [..., C] -> logits [..., V]. */
  head(x: tf.Tensor): tf.Tensor {
    const logits = linear(x, this.lmHead.value, undefined, true);
    const cap = this.config.logit_softcap;
    return cap > 0 ? tf.mul(tf.tanh(tf.div(logits, cap)), cap) : logits;
  }

  /** The logits [B, V] of the token after position `at`, an int32 [1]: the output layer runs on that one alone. */
  nextLogits(ids: tf.Tensor, at: tf.Tensor): tf.Tensor {
    const last = tf.squeeze(tf.gather(this.forward(ids), at, 1), [1]); // [B, C]
    return this.head(last);
  }

  /** `forward` for tokens [B, T] at `positions` (int32 [T]) that also see those in the caches, one a layer, and join them. */
  cachedForward(ids: tf.Tensor, positions: tf.Tensor, caches: readonly LayerCache[]): tf.Tensor {
    return this.layers(ids, positions, undefined, caches);
  }

  /** Mean cross-entropy, in nats a token, of targets [B, T] given ids [B, T]. With a mask source, in training, dropout is
   * on and a mixture of experts adds its router's losses. */
  loss(ids: tf.Tensor, targets: tf.Tensor, mask?: MaskSource): tf.Scalar {
    const { vocab_size, ffn, n_expert_active, router_aux_coef, router_z_coef } = this.config;
    const routers = mask && ffn === "moe" && router_aux_coef + router_z_coef > 0 ? [] : undefined;
    const logits = this.head(this.forward(ids, mask, routers));
    const loss = crossEntropy(tf.reshape(logits, [targets.size, vocab_size]), tf.reshape(targets, [targets.size]));
    if (!routers) return loss;
    const { balance, z } = routerLosses(routers, n_expert_active);
    return tf.addN([loss, tf.mul(balance, router_aux_coef), tf.mul(z, router_z_coef)]) as tf.Scalar;
  }

  /** Shorten the longest context: the position embeddings beyond it are cut off. */
  cropBlockSize(block_size: number): void {
    if (block_size > this.config.block_size) {
      throw new Error(`block_size ${this.config.block_size} can be cropped, not extended to ${block_size}`);
    }
    this.config.block_size = block_size;
    if (!(this.position instanceof Learned)) return; // nothing is as long as the context
    const { table } = this.position;
    const cropped = new Parameter(table.name, [block_size, this.config.n_embd], table.init);
    cropped.data.set(table.data.subarray(0, cropped.data.length));
    this.parameters[this.parameters.indexOf(table)] = cropped;
    this.position.table = cropped;
  }

  /** How many weights there are, by default without the position embeddings (the token embeddings count: they are the
   * output layer too). */
  numParams(nonEmbedding = true): number {
    const all = this.parameters.reduce((sum, { data }) => sum + data.length, 0);
    return nonEmbedding ? all - (this.wpe?.data.length ?? 0) : all;
  }

  /** Floating point operations of one forward and backward pass over a token (PaLM, Chowdhery et al. 2022, appendix B); of
   * experts only the active ones count. */
  flopsPerToken(): number {
    const { n_layer, n_embd, block_size } = this.config;
    const idle = this.blocks.reduce((sum, { mlp }) => sum + (mlp.idle ?? 0), 0);
    return 6 * (this.numParams() - idle) + 12 * n_layer * n_embd * block_size;
  }

  /** Model FLOPs utilisation, 0 to 1: what `sequences` of block_size in `seconds` need, over the machine's `peak` in
   * FLOP/s. */
  estimateMfu(sequences: number, seconds: number, peak: number): number {
    return (this.flopsPerToken() * this.config.block_size * sequences) / seconds / peak;
  }

  /** The optimizer's two groups: matrices and embeddings decay, biases and layer norms don't. */
  decayGroups(): { decay: Parameter[]; noDecay: Parameter[] } {
    return {
      decay: this.parameters.filter(({ shape }) => shape.length >= 2),
      noDecay: this.parameters.filter(({ shape }) => shape.length < 2),
    };
  }
}
