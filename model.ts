// A GPT language model, whole: the layers from the smallest to the largest, how they start and how they are counted.
// Plain TensorFlow.js, in the shapes and with the weight names of GPT-2 (Radford et al.
// 2019; github.com/openai/gpt-2). train.ts trains it, lib/decoding/ draws text from it; which machinery runs it is none of
// its business.
//
// Letters of shapes: B batch, T time (positions), C channels (n_embd), H heads, D = C / H channels a head, V vocabulary.

import * as tf from "@tensorflow/tfjs";

import { causalAttention, joinHeads, splitHeads } from "./lib/nn/attention.ts";
import { AttentionVariant, isPlain } from "./lib/nn/attention_variant.ts";
import { cachedAttention, type LayerCache } from "./lib/nn/cached_attention.ts";
import { type Choices, type FeedForwardName, LAYER_CHOICES as GPT2_CHOICES } from "./lib/nn/choices.ts";
import type { Context, Given, Memory, Source } from "./lib/nn/context.ts";
import { CrossAttention, type MemoryKeys, sourceEnds } from "./lib/nn/cross_attention.ts";
import { crossEntropy } from "./lib/nn/cross_entropy.ts";
import { dropout, type MaskSource } from "./lib/nn/dropout.ts";
import { embedding, takeEach } from "./lib/nn/embedding.ts";
import { type FeedForward, feedForwards } from "./lib/nn/feed_forward.ts";
import { linear } from "./lib/nn/linear.ts";
import { Linear, Scope } from "./lib/nn/module.ts";
import { type Norm, newNorm } from "./lib/nn/norm.ts";
import { Parameter } from "./lib/nn/parameter.ts";
import { Learned, type Position, type Positions, positions } from "./lib/nn/position.ts";
import { blocksBy } from "./lib/nn/query_blocks.ts";
import { recomputeAll } from "./lib/nn/recompute.ts";
import { checkChoices, type Role, roles } from "./lib/nn/registry.ts";
import { type Part, Residual, sideBySide } from "./lib/nn/residual.ts";
import { routerLosses } from "./lib/nn/routing.ts";
import { tap } from "./lib/nn/tap.ts";

export interface GPTConfig extends Partial<Choices> {
  block_size: number; // the longest context, in tokens
  vocab_size: number;
  n_layer: number;
  n_head: number;
  n_embd: number;
  dropout: number;
  bias: boolean; // in linear layers and layer norms, as GPT-2 has; without is a little faster and no worse
  ffn: FeedForwardName; // one of lib/nn/feed_forward.ts: "gelu", or "gelu_tanh" as GPT-2 has
}

export type FullConfig = Required<GPTConfig>;
export { GPT2_CHOICES };

/** Projections that add to the residual stream start smaller, so that its variance doesn't grow with depth (GPT-2). */
const residualDeviation = (config: FullConfig) => 0.02 / Math.sqrt(2 * config.n_layer);

export class SelfAttention {
  readonly config: FullConfig;
  readonly cAttn: Linear; // query, key and value of all heads in one product
  readonly cProj: Linear;
  readonly variant: AttentionVariant | undefined; // where it isn't GPT-2's

  /** @param causal whether a position sees only those before it (and itself), as in a decoder */
  constructor(scope: Scope, config: FullConfig, position: Position, causal = true) {
    const { n_embd: C, n_head: H, bias } = config;
    const K = config.n_kv_head || H;
    this.config = config;
    const splits = [C, (K * C) / H, (K * C) / H];
    this.cAttn = new Linear(scope.at("c_attn"), C, C + 2 * splits[1]!, bias, { splits });
    this.cProj = new Linear(scope.at("c_proj"), C, C, bias, { deviation: residualDeviation(config) });
    if (!causal || !isPlain(config, position)) this.variant = new AttentionVariant(scope, config, position, causal);
  }

  /** [B, T, C] at `positions` -> [B, T, C]. With a cache they also see those in it. */
  forward(x: tf.Tensor, positions: Positions, context: Context = {}): tf.Tensor {
    const { n_head: H, dropout: rate } = this.config;
    const { mask, cache } = context;
    const qkv = tap("qkv", this.cAttn.forward(x)); // [B, T, 3C]
    if (this.variant) return dropout(this.cProj.forward(this.variant.forward(qkv, positions, context)), rate, mask);
    if (cache) return this.cProj.forward(cachedAttention([qkv], cache, { H }));
    const [query, key, value] = splitHeads(qkv, H); // [B * H, T, D] each
    const joined = joinHeads(causalAttention(query, key, value, rate, mask, ...blocksBy(this.config)), H);
    return dropout(this.cProj.forward(joined), rate, mask);
  }
}

export class Block {
  readonly ln1: Residual;
  readonly attn: SelfAttention;
  readonly lnCross: Residual | undefined;
  readonly cross: CrossAttention | undefined; // a decoder's, where it has a source
  readonly ln2: Residual | undefined; // none where both parts share one
  readonly mlp: FeedForward;
  readonly config: FullConfig;

  /** @param depth from above 0 for the first to 1 for the last */
  constructor(scope: Scope, config: FullConfig, position: Position, depth: number, role: Role) {
    const residual = (name: string) => new Residual(scope, name, config, config.stochastic_depth * depth);
    this.config = config;
    this.ln1 = residual("ln_1");
    this.attn = new SelfAttention(scope.at("attn"), config, position, role !== "encoder");
    if (role === "crossing") {
      this.lnCross = residual("ln_cross");
      this.cross = new CrossAttention(scope.at("cross_attn"), config, residualDeviation(config));
    }
    this.ln2 = config.parallel_block && config.parallel_norms === 1 ? undefined : residual("ln_2");
    this.mlp = new feedForwards[config.ffn]!(scope.at("mlp"), config, residualDeviation(config));
  }

  /** [B, T, C] -> [B, T, C] */
  forward(x: tf.Tensor, positions: Positions, context: Context = {}): tf.Tensor {
    const { ln1, lnCross, cross, ln2, config } = this;
    const { mask } = context;
    const attend: Part = (x) => this.attn.forward(x, positions, context);
    const think: Part = (x) => dropout(this.mlp.forward(x, context), config.dropout, mask);
    if (config.parallel_block) return tap("block", sideBySide(x, [ln1, attend], [ln2, think], mask));
    x = ln1.forward(x, attend, mask); // x + attend(norm(x)), as a rule
    if (cross) x = lnCross!.forward(x, (x) => cross.forward(x, context), mask);
    return tap("block", ln2!.forward(x, think, mask));
  }
}

/** Blocks one after the other, with positions before the first and a norm behind the last. */
export class Stack {
  readonly config: FullConfig;
  readonly position: Position;
  readonly blocks: Block[];
  readonly lnF: Norm | undefined;

  constructor(scope: Scope, config: FullConfig, role: Role) {
    const { n_layer, pos, norm_position } = config;
    this.config = config;
    this.position = new positions[pos]!(scope, config, role !== "encoder");
    this.blocks = Array.from({ length: n_layer }, (_, i) => {
      return new Block(scope.at(`h.${i}`), config, this.position, (i + 1) / n_layer, role);
    });
    this.lnF = norm_position === "post" ? undefined : newNorm(scope.at("ln_f"), config);
  }

  /** Embedded tokens [B, T, C] at `positions` -> [B, T, C]. With `caches`, one a layer, they also see those in them. */
  forward(x: tf.Tensor, positions: Positions, context: Context = {}, caches?: readonly LayerCache[]): tf.Tensor {
    const { mask, memory, hides, routers } = context;
    if (this.position.scale) x = tf.mul(x, this.position.scale);
    if (this.position.embed) x = tf.add(x, this.position.embed(positions));
    x = dropout(x, this.config.dropout, mask);
    const others = memory ? [memory.x, memory.hides] : hides ? [hides] : [];
    for (const [i, block] of this.blocks.entries()) {
      const results = recomputeAll(block, [x, ...others], mask, ([x, ...others], mask) => {
        const seen = memory ? { memory: { x: others[0]!, hides: others[1]! } } : { hides: others[0] };
        const own: tf.Tensor[] = []; // its router's logits
        const context = { ...seen, mask, cache: caches?.[i], routers: routers && own };
        return [block.forward(x!, positions, context), ...own];
      });
      x = results[0]!;
      routers?.push(...results.slice(1));
    }
    return this.lnF ? this.lnF.forward(x) : x;
  }
}

export class GPT {
  config: FullConfig;
  readonly parameters: Parameter[] = [];
  readonly wte: Parameter; // [V, C]: token embeddings
  readonly encoder: Stack | undefined; // of the source, where there is one
  readonly stack: Stack;
  readonly lmHead: Parameter; // [V, C]: the output layer; wte itself unless untied (Press and Wolf 2017)

  /** All weights at their start but the random ones, which are 0 until `initWeights` or until a checkpoint is loaded. */
  constructor(given: GPTConfig) {
    const config: FullConfig = { ...GPT2_CHOICES, ...given };
    const { vocab_size: V, n_embd: C, architecture } = config;
    checkChoices(config);
    this.config = config;
    const root = new Scope(this.parameters);
    const scope = root.at("transformer");
    this.wte = scope.at("wte").parameter("weight", [V, C], { normal: 0.02 }, "embedding");
    const role = roles[architecture];
    if (role === "crossing") this.encoder = new Stack(scope.at("encoder"), config, "encoder");
    this.stack = new Stack(scope, config, role);
    this.lmHead = config.tie_weights
      ? this.wte
      : root.at("lm_head").parameter("weight", [V, C], { normal: 0.02 }, "head");
  }

  get blocks(): readonly Block[] {
    return this.stack.blocks;
  }

  /** The position embeddings [block_size, C], where there are such. */
  get wpe(): Parameter | undefined {
    return tableOf(this.stack);
  }

  /** Draw the random weights. `fillNormal(array, name, deviation)` fills one, by the weight's name. */
  initWeights(fillNormal: (out: Float32Array, name: string, deviation: number) => void): void {
    for (const { name, init, data } of this.parameters) {
      if ("normal" in init) fillNormal(data, name, init.normal);
    }
  }

  /** Token ids [B, T], after a source where the model has an encoder -> what the last layer makes of each position [B, T, C].
   * With `routers` the logits of each layer's router [B, T, E] are added to them. */
  forward(ids: tf.Tensor, source?: Source, mask?: MaskSource, routers?: tf.Tensor[]): tf.Tensor {
    const T = ids.shape[1]!;
    this.checkLength(T);
    const memory = this.encoder && this.encode(source!, mask, routers);
    return this.stack.forward(embedding(this.wte.value, ids), T, { mask, memory, routers });
  }

  /** What the encoder makes of a source, for a decoder to look at. */
  encode({ source, source_length }: Source, mask?: MaskSource, routers?: tf.Tensor[]): Memory {
    const S = source.shape[1]!;
    this.checkLength(S);
    const hides = sourceEnds(source_length, S);
    return { x: this.encoder!.forward(embedding(this.wte.value, source), S, { mask, hides, routers }), hides };
  }

  /** What each layer looks at of a source, token ids [B, S] at `positions` (int32 [S]): the same for all that is written after it. */
  readSource(ids: tf.Tensor, positions: tf.Tensor): MemoryKeys[] {
    const x = this.encoder!.forward(embedding(this.wte.value, ids), positions);
    return this.stack.blocks.map(({ cross }) => cross!.keys(x));
  }

  private checkLength(T: number): void {
    const { block_size } = this.config;
    if (T > block_size) throw new Error(`${T} tokens don't fit into block_size ${block_size}`);
  }

  /** Token ids [B, T] -> logits [B, T, V] of the token that follows each position, or stands there (an encoder's). */
  logits(ids: tf.Tensor, source?: Source): tf.Tensor {
    return this.head(this.forward(ids, source));
  }

  /** The output layer: [..., C] -> logits [..., V]. */
  head(x: tf.Tensor): tf.Tensor {
    const logits = linear(x, this.lmHead.value, undefined, true);
    const cap = this.config.logit_softcap;
    return cap > 0 ? tf.mul(tf.tanh(tf.div(logits, cap)), cap) : logits;
  }

  /** The logits [B, V] of the token after position `at`, an int32 [1]: the output layer runs on that one alone. */
  nextLogits(ids: tf.Tensor, at: tf.Tensor, source?: Source): tf.Tensor {
    const last = tf.squeeze(tf.gather(this.forward(ids, source), at, 1), [1]); // [B, C]
    return this.head(last);
  }

  /** `forward` for tokens [B, T] at `positions` (int32 [T]) that also see those in the caches, one a layer, and join them. */
  cachedForward(ids: tf.Tensor, positions: tf.Tensor, caches: readonly LayerCache[]): tf.Tensor {
    return this.stack.forward(embedding(this.wte.value, ids), positions, {}, caches);
  }

  /** Mean cross-entropy, in nats a token, of targets [B, T] (or those of the positions `given.guessed`, [B, M]) given ids [B, T] and
   * a source; a target of -1 doesn't count. With a mask source, in training, dropout is on and a mixture of experts adds its
   * router's losses. */
  loss(ids: tf.Tensor, targets: tf.Tensor, mask?: MaskSource, given: Given = {}): tf.Scalar {
    const { architecture, vocab_size, ffn, n_expert_active, router_aux_coef, router_z_coef } = this.config;
    const routers = mask && ffn === "moe" && router_aux_coef + router_z_coef > 0 ? [] : undefined;
    let x = this.forward(ids, given as Source, mask, routers);
    if (given.guessed) x = takeEach(x, given.guessed); // the output layer runs on those alone
    const logits = tf.reshape(this.head(x), [targets.size, vocab_size]);
    const loss = crossEntropy(logits, tf.reshape(targets, [targets.size]), architecture !== "decoder");
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
    for (const stack of [this.encoder, this.stack]) {
      const table = stack && tableOf(stack);
      if (!table) continue; // nothing is as long as the context
      const cropped = new Parameter(table.name, [block_size, this.config.n_embd], table.init, table.role);
      cropped.data.set(table.data.subarray(0, cropped.data.length));
      this.parameters[this.parameters.indexOf(table)] = cropped;
      (stack.position as Learned).table = cropped;
    }
  }

  /** How many weights there are, by default without the position embeddings (the token embeddings count: they are the
   * output layer too). */
  numParams(nonEmbedding = true): number {
    const all = this.parameters.reduce((sum, { size }) => sum + size, 0);
    if (!nonEmbedding) return all;
    return [this.encoder, this.stack].reduce((sum, stack) => sum - ((stack && tableOf(stack)?.size) ?? 0), all);
  }

  /** Floating point operations of one forward and backward pass over a token, and one of the source where there is one (PaLM,
   * Chowdhery et al. 2022, appendix B); of experts only the active ones count.
   * @param targets how many each token has: less than 1 where an encoder guesses some */
  flopsPerToken(targets = 1): number {
    const { n_layer, n_embd, block_size } = this.config;
    const blocks = [...(this.encoder?.blocks ?? []), ...this.blocks];
    const idle = blocks.reduce((sum, { mlp }) => sum + (mlp.idle ?? 0), 0);
    const attentions = this.encoder ? 3 * n_layer : n_layer; // of the source, of the text, and from one to the other
    const silent = (1 - targets) * this.lmHead.size;
    return 6 * (this.numParams() - idle - silent) + 12 * attentions * n_embd * block_size;
  }

  /** Model FLOPs utilisation, 0 to 1: what `sequences` of block_size in `seconds` need, over the machine's `peak` in
   * FLOP/s. */
  estimateMfu(sequences: number, seconds: number, peak: number, targets = 1): number {
    return (this.flopsPerToken(targets) * this.config.block_size * sequences) / seconds / peak;
  }

  /** The optimizer's two groups: matrices and embeddings decay, biases and layer norms don't. */
  decayGroups(): { decay: Parameter[]; noDecay: Parameter[] } {
    return {
      decay: this.parameters.filter(({ shape }) => shape.length >= 2),
      noDecay: this.parameters.filter(({ shape }) => shape.length < 2),
    };
  }
}

const tableOf = ({ position }: Stack) => (position instanceof Learned ? position.table : undefined);
