// A GPT language model, whole: the layers from the smallest to the largest, how they start and how they are counted.
// Plain TensorFlow.js, in the shapes and with the weight names of GPT-2 (Radford et al.
// 2019; github.com/openai/gpt-2). train.ts trains it, decoding/ draws text from it; which machinery runs it is none of
// its business.
//
// Letters of shapes: B batch, T time (positions), C channels (n_embd), H heads, D = C / H channels a head, V vocabulary.

import * as tf from "@tensorflow/tfjs";

import { activations } from "./nn/activation.ts";
import { cachedAttention, causalAttention, joinHeads, type LayerCache, splitHeads } from "./nn/attention.ts";
import { crossEntropy } from "./nn/cross_entropy.ts";
import { dropout, type MaskSource } from "./nn/dropout.ts";
import { embedding } from "./nn/embedding.ts";
import { layerNorm } from "./nn/layer_norm.ts";
import { linear } from "./nn/linear.ts";
import { type Init, Parameter } from "./nn/parameter.ts";
import { tap } from "./nn/tap.ts";

export interface GPTConfig {
  block_size: number; // the longest context, in tokens
  vocab_size: number;
  n_layer: number;
  n_head: number;
  n_embd: number;
  dropout: number;
  bias: boolean; // in linear layers and layer norms, as GPT-2 has; without is a little faster and no worse
  ffn: string; // activation of the MLP, one of nn/activation.ts: "gelu", or "gelu_tanh" as GPT-2 has
  tie_weights?: boolean; // the token embeddings are the output layer too, unless false
}

/** Makes a layer's weights and notes them down; `at("attn")` is the same for a layer inside, with a longer name. */
class Scope {
  readonly #prefix: string;
  readonly #all: Parameter[];

  constructor(all: Parameter[], prefix = "") {
    this.#all = all;
    this.#prefix = prefix;
  }

  at(name: string): Scope {
    return new Scope(this.#all, `${this.#prefix}${name}.`);
  }

  parameter(name: string, shape: number[], init: Init): Parameter {
    const parameter = new Parameter(this.#prefix + name, shape, init);
    this.#all.push(parameter);
    return parameter;
  }
}

class LayerNorm {
  readonly weight: Parameter; // [C]
  readonly bias: Parameter | undefined; // [C]

  constructor(scope: Scope, C: number, bias: boolean) {
    this.weight = scope.parameter("weight", [C], { constant: 1 });
    this.bias = bias ? scope.parameter("bias", [C], { constant: 0 }) : undefined;
  }

  forward(x: tf.Tensor): tf.Tensor {
    return layerNorm(x, this.weight.value, this.bias?.value);
  }
}

class Linear {
  readonly weight: Parameter; // [C, D]: input by output, as GPT-2 keeps it
  readonly bias: Parameter | undefined; // [D]

  constructor(scope: Scope, C: number, D: number, bias: boolean, deviation = 0.02) {
    this.weight = scope.parameter("weight", [C, D], { normal: deviation });
    this.bias = bias ? scope.parameter("bias", [D], { constant: 0 }) : undefined;
  }

  forward(x: tf.Tensor): tf.Tensor {
    return linear(x, this.weight.value, this.bias?.value);
  }
}

/** Projections that add to the residual stream start smaller, so that its variance doesn't grow with depth (GPT-2). */
const residualDeviation = (config: GPTConfig) => 0.02 / Math.sqrt(2 * config.n_layer);

export class CausalSelfAttention {
  readonly config: GPTConfig;
  readonly cAttn: Linear; // query, key and value of all heads in one product
  readonly cProj: Linear;

  constructor(scope: Scope, config: GPTConfig) {
    const { n_embd: C, bias } = config;
    this.config = config;
    this.cAttn = new Linear(scope.at("c_attn"), C, 3 * C, bias);
    this.cProj = new Linear(scope.at("c_proj"), C, C, bias, residualDeviation(config));
  }

  /** [B, T, C] -> [B, T, C]. With a cache the positions also see those in it. */
  forward(x: tf.Tensor, mask?: MaskSource, cache?: LayerCache): tf.Tensor {
    const { n_head: H, dropout: rate } = this.config;
    const qkv = tap("qkv", this.cAttn.forward(x)); // [B, T, 3C]
    if (cache) return this.cProj.forward(cachedAttention(qkv, H, cache));
    const [query, key, value] = splitHeads(qkv, H); // [B * H, T, D] each
    const joined = joinHeads(causalAttention(query, key, value, rate, mask), H);
    return dropout(this.cProj.forward(joined), rate, mask);
  }
}

export class MLP {
  readonly config: GPTConfig;
  readonly cFc: Linear;
  readonly cProj: Linear;

  constructor(scope: Scope, config: GPTConfig) {
    const { n_embd: C, bias } = config;
    this.config = config;
    this.cFc = new Linear(scope.at("c_fc"), C, 4 * C, bias);
    this.cProj = new Linear(scope.at("c_proj"), 4 * C, C, bias, residualDeviation(config));
  }

  /** [B, T, C] -> [B, T, C] */
  forward(x: tf.Tensor, mask?: MaskSource): tf.Tensor {
    const activation = activations[this.config.ffn]!;
    const hidden = tap("mlp", activation(this.cFc.forward(x))); // [B, T, 4C]
    return dropout(this.cProj.forward(hidden), this.config.dropout, mask);
  }
}

export class Block {
  readonly ln1: LayerNorm;
  readonly attn: CausalSelfAttention;
  readonly ln2: LayerNorm;
  readonly mlp: MLP;

  constructor(scope: Scope, config: GPTConfig) {
    this.ln1 = new LayerNorm(scope.at("ln_1"), config.n_embd, config.bias);
    this.attn = new CausalSelfAttention(scope.at("attn"), config);
    this.ln2 = new LayerNorm(scope.at("ln_2"), config.n_embd, config.bias);
    this.mlp = new MLP(scope.at("mlp"), config);
  }

  /** [B, T, C] -> [B, T, C] */
  forward(x: tf.Tensor, mask?: MaskSource, cache?: LayerCache): tf.Tensor {
    const attended = tf.add(x, this.attn.forward(this.ln1.forward(x), mask, cache));
    return tap("block", tf.add(attended, this.mlp.forward(this.ln2.forward(attended), mask)));
  }
}

export class GPT {
  config: GPTConfig;
  readonly parameters: Parameter[] = [];
  readonly wte: Parameter; // [V, C]: token embeddings
  wpe: Parameter; // [block_size, C]: position embeddings
  readonly blocks: Block[];
  readonly lnF: LayerNorm;
  readonly lmHead: Parameter; // [V, C]: the output layer; wte itself unless untied (Press and Wolf 2017)

  /** All weights at their start but the random ones, which are 0 until `initWeights` or until a checkpoint is loaded. */
  constructor(config: GPTConfig) {
    const { vocab_size: V, block_size, n_embd: C } = config;
    if (C % config.n_head !== 0) throw new Error(`n_embd ${C} can't be split among ${config.n_head} heads`);
    if (!Object.hasOwn(activations, config.ffn)) throw new Error(`no activation ${config.ffn}`);
    this.config = { ...config };
    const root = new Scope(this.parameters);
    const scope = root.at("transformer");
    this.wte = scope.at("wte").parameter("weight", [V, C], { normal: 0.02 });
    this.wpe = scope.at("wpe").parameter("weight", [block_size, C], { normal: 0.02 });
    this.blocks = Array.from({ length: config.n_layer }, (_, i) => new Block(scope.at(`h.${i}`), config));
    this.lnF = new LayerNorm(scope.at("ln_f"), C, config.bias);
    const tied = config.tie_weights ?? true;
    this.lmHead = tied ? this.wte : root.at("lm_head").parameter("weight", [V, C], { normal: 0.02 });
  }

  /** Draw the random weights. `fillNormal(array, name, deviation)` fills one, by the weight's name. */
  initWeights(fillNormal: (out: Float32Array, name: string, deviation: number) => void): void {
    for (const { name, init, data } of this.parameters) {
      if ("normal" in init) fillNormal(data, name, init.normal);
    }
  }

  /** Token ids [B, T] -> what the last layer makes of each position [B, T, C]. */
  forward(ids: tf.Tensor, mask?: MaskSource): tf.Tensor {
    const T = ids.shape[1]!;
    const { block_size } = this.config;
    if (T > block_size) throw new Error(`${T} tokens don't fit into block_size ${block_size}`);
    const positions = T === block_size ? this.wpe.value : tf.slice(this.wpe.value, [0, 0], [T, -1]);
    return this.layers(ids, positions, mask);
  }

  /** Token ids [B, T] and the embeddings of their positions [T, C] -> [B, T, C]. */
  private layers(ids: tf.Tensor, positions: tf.Tensor, mask?: MaskSource, caches?: readonly LayerCache[]): tf.Tensor {
    let x = dropout(tf.add(embedding(this.wte.value, ids), positions), this.config.dropout, mask);
    for (const [i, block] of this.blocks.entries()) x = block.forward(x, mask, caches?.[i]);
    return this.lnF.forward(x);
  }

  /** Token ids [B, T] -> logits [B, T, V] of the token that follows each position. */
  logits(ids: tf.Tensor): tf.Tensor {
    return this.head(this.forward(ids));
  }

  /** The output layer: [..., C] -> logits [..., V]. */
  head(x: tf.Tensor): tf.Tensor {
    return linear(x, this.lmHead.value, undefined, true);
  }

  /** The logits [B, V] of the token after position `at`, an int32 [1]: the output layer runs on that one alone. */
  nextLogits(ids: tf.Tensor, at: tf.Tensor): tf.Tensor {
    const last = tf.squeeze(tf.gather(this.forward(ids), at, 1), [1]); // [B, C]
    return this.head(last);
  }

  /** `forward` for tokens [B, T] at `positions` (int32 [T]) that also see those in the caches, one a layer, and join them. */
  cachedForward(ids: tf.Tensor, positions: tf.Tensor, caches: readonly LayerCache[]): tf.Tensor {
    return this.layers(ids, tf.gather(this.wpe.value, positions), undefined, caches);
  }

  /** Mean cross-entropy, in nats a token, of targets [B, T] given ids [B, T]. With a mask source dropout is on. */
  loss(ids: tf.Tensor, targets: tf.Tensor, mask?: MaskSource): tf.Scalar {
    const logits = this.head(this.forward(ids, mask));
    return crossEntropy(
      tf.reshape(logits, [targets.size, this.config.vocab_size]),
      tf.reshape(targets, [targets.size]),
    );
  }

  /** Shorten the longest context: the position embeddings beyond it are cut off. */
  cropBlockSize(block_size: number): void {
    if (block_size > this.config.block_size) {
      throw new Error(`block_size ${this.config.block_size} can be cropped, not extended to ${block_size}`);
    }
    const C = this.config.n_embd;
    const cropped = new Parameter(this.wpe.name, [block_size, C], this.wpe.init);
    cropped.data.set(this.wpe.data.subarray(0, block_size * C));
    this.parameters[this.parameters.indexOf(this.wpe)] = cropped;
    this.wpe = cropped;
    this.config.block_size = block_size;
  }

  /** How many weights there are, by default without the position embeddings (the token embeddings count: they are the
   * output layer too). */
  numParams(nonEmbedding = true): number {
    const all = this.parameters.reduce((sum, { data }) => sum + data.length, 0);
    return nonEmbedding ? all - this.wpe.data.length : all;
  }

  /** Floating point operations of one forward and backward pass over a token (PaLM, Chowdhery et al. 2022, appendix B). */
  flopsPerToken(): number {
    const { n_layer, n_embd, block_size } = this.config;
    return 6 * this.numParams() + 12 * n_layer * n_embd * block_size;
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
