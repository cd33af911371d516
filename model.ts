// GPT-2 as a textbook (Radford et al. 2019; github.com/openai/gpt-2): from the smallest part to the whole, in plain TensorFlow.js, in
// the shapes and with the weight names of GPT-2. train.ts trains it, lib/decoding/ samples from it, lib/formats/ exports it.
//
// What is changed here is changed in all of them. The formulas layerNorm, gelu and attention have faster twins in lib/nn/, which run in
// their place while they compute the same: lib/nn/fast.ts compares them when a model is made. Settings beyond GPT-2
// (docs/concepts/layers.md) put other layers into Transformer and Block: lib/nn/variant.ts makes those, and these wherever they do.
//
// Letters of shapes: B batch, T time (positions), S keys, C channels (n_embd), H heads, D = C / H channels a head, V vocabulary.

import { tf } from "./lib/common/tf.ts";

import { geluKernels } from "./lib/nn/activation.ts";
import { type Choices, checkChoices, LAYER_CHOICES, type ModelConfig } from "./lib/nn/choices.ts";
import { crossEntropy } from "./lib/nn/cross_entropy.ts";
import { type DropoutRng, dropout } from "./lib/nn/dropout.ts";
import { embedding, gatherPositions } from "./lib/nn/embedding.ts";
import { fast } from "./lib/nn/fast.ts";
import type { BatchInputs, ForwardArgs, SourceInputs } from "./lib/nn/forward_args.ts";
import { splitQkv } from "./lib/nn/heads.ts";
import { randomWeights } from "./lib/nn/init.ts";
import { layerNormKernel } from "./lib/nn/layer_norm.ts";
import { linear } from "./lib/nn/linear.ts";
import { HIDDEN } from "./lib/nn/mask.ts";
import { Linear, residualDeviation, Scope } from "./lib/nn/module.ts";
import { MultiHead } from "./lib/nn/multi_head.ts";
import type { Parameter } from "./lib/nn/parameter.ts";
import { addPositions, type Position, positionEmbedding } from "./lib/nn/position.ts";
import { recomputeLayer } from "./lib/nn/recompute.ts";
import { addRouterLosses } from "./lib/nn/routing.ts";
import { softCap } from "./lib/nn/softcap.ts";
import { tap } from "./lib/nn/tap.ts";
import type { BlockLayers, Norm, Sublayer } from "./lib/nn/textbook.ts";
import { type AnyBlock, type AnyTransformer, inactiveWeights, type Layers, newTransformer } from "./lib/nn/variant.ts";
import { attentionDropout } from "./lib/nn/weight_dropout.ts";

export type FullConfig = ModelConfig;
export type GPTConfig = Omit<ModelConfig, keyof Choices> & Partial<Choices>;
export { LAYER_CHOICES };

// ---- the formulas --------------------------------------------------------------------------------------------------

/** Each row of x [..., C] to mean 0 and variance 1, then scaled and shifted (Ba, Kiros and Hinton 2016, equations 3 and 4). */
export function layerNorm(x: tf.Tensor, weight: tf.Tensor, bias?: tf.Tensor, epsilon = 1e-5): tf.Tensor {
  const { mean, variance } = tf.moments(x, -1, true);
  const y = tf.mul(tf.div(tf.sub(x, mean), tf.sqrt(tf.add(variance, epsilon))), weight);
  return bias ? tf.add(y, bias) : y;
}

/** x Phi(x), where Phi is the normal distribution's cumulative function (Hendrycks and Gimpel 2016). Any shape. */
export function gelu(x: tf.Tensor): tf.Tensor {
  return tf.mul(x, tf.mul(tf.add(1, tf.erf(tf.mul(x, Math.SQRT1_2))), 0.5));
}

/** Their approximation with a tanh, which OpenAI trained GPT-2 with. */
export function geluTanh(x: tf.Tensor): tf.Tensor {
  const u = tf.mul(tf.add(x, tf.mul(tf.mul(x, tf.square(x)), 0.044715)), Math.sqrt(2 / Math.PI));
  return tf.mul(x, tf.mul(tf.add(1, tf.tanh(u)), 0.5));
}

/**
 * softmax(Q K^T / sqrt(D)) V, where a position sees itself and those before it (Vaswani et al. 2017, equation 1). With a KV cache
 * there are more keys than queries.
 * @param query [B, H, T, D] at the positions `at`, float [T]
 * @param key [B, H, S, D], as value, at the positions `from`, float [S]
 * @returns [B, H, T, D]
 */
export function attention(
  query: tf.Tensor,
  key: tf.Tensor,
  value: tf.Tensor,
  at: tf.Tensor,
  from: tf.Tensor,
  dropoutRate = 0,
  rng?: DropoutRng,
): tf.Tensor {
  const scores = tf.matMul(tf.mul(query, 1 / Math.sqrt(query.shape[3]!)), key, false, true); // [B, H, T, S]
  const later = tf.cast(tf.less(tf.expandDims(at, 1), from), "float32"); // [T, S]: 1 where the key comes after the query
  const weights = tap("attention", tf.softmax(tf.add(scores, tf.mul(later, HIDDEN))));
  return tf.matMul(attentionDropout(weights, dropoutRate, rng), value);
}

// ---- the layers ----------------------------------------------------------------------------------------------------

export class LayerNorm {
  readonly weight: Parameter; // [C]
  readonly bias: Parameter | undefined; // [C]
  readonly epsilon: number;
  readonly #layerNorm = fast(layerNormKernel, layerNorm);

  constructor(scope: Scope, C: number, bias: boolean, epsilon = 1e-5) {
    this.weight = scope.parameter("weight", [C], { constant: 1 }, "norm");
    this.bias = bias ? scope.parameter("bias", [C], { constant: 0 }, "bias") : undefined;
    this.epsilon = epsilon;
  }

  /** [..., C] -> [..., C] */
  forward(x: tf.Tensor): tf.Tensor {
    return this.#layerNorm(x, this.weight.value, this.bias?.value, this.epsilon);
  }
}

const NORMAL = { normal: 0.02 }; // how matrices and embeddings start

export class CausalSelfAttention {
  readonly config: FullConfig;
  readonly cAttn: Linear; // query, key and value of all heads in one product
  readonly cProj: Linear;
  readonly heads: MultiHead; // runs the formula: in training, or with a KV cache

  constructor(scope: Scope, config: FullConfig) {
    const { n_embd: C, bias } = config;
    this.config = config;
    this.cAttn = new Linear(scope.at("c_attn"), C, 3 * C, bias, { splits: [C, C, C] });
    this.cProj = new Linear(scope.at("c_proj"), C, C, bias, { deviation: residualDeviation(config) });
    this.heads = new MultiHead(attention, config);
  }

  /** [B, T, C] -> [B, T, C] */
  forward(x: tf.Tensor, args: ForwardArgs = {}): tf.Tensor {
    const [query, key, value] = splitQkv(this.cAttn.forward(x)); // [B, T, C] each
    const y = this.heads.forward(query, key, value, args);
    return dropout(this.cProj.forward(y), this.config.dropout, args.rng);
  }
}

export class MLP {
  readonly config: FullConfig;
  readonly cFc: Linear;
  readonly cProj: Linear;
  readonly #gelu: (x: tf.Tensor) => tf.Tensor;

  constructor(scope: Scope, config: FullConfig) {
    const { n_embd: C, bias, ffn } = config;
    this.config = config;
    this.cFc = new Linear(scope.at("c_fc"), C, 4 * C, bias);
    this.cProj = new Linear(scope.at("c_proj"), 4 * C, C, bias, { deviation: residualDeviation(config) });
    this.#gelu = ffn === "gelu_tanh" ? fast(geluKernels.gelu_tanh, geluTanh) : fast(geluKernels.gelu, gelu);
  }

  /** [B, T, C] -> [B, T, C] */
  forward(x: tf.Tensor, { rng }: ForwardArgs = {}): tf.Tensor {
    const hidden = tap("mlp", this.#gelu(this.cFc.forward(x))); // [B, T, 4C]
    return dropout(this.cProj.forward(hidden), this.config.dropout, rng);
  }
}

export class Block {
  readonly ln1: Norm;
  readonly attn: Sublayer;
  readonly ln2: Norm;
  readonly mlp: Sublayer;

  /** @param layers makes a LayerNorm, a CausalSelfAttention and an MLP, or what the settings choose in their place */
  constructor(scope: Scope, config: FullConfig, layers: BlockLayers) {
    this.ln1 = layers.norm(scope.at("ln_1"), config);
    this.attn = layers.attention(scope.at("attn"), config);
    this.ln2 = layers.norm(scope.at("ln_2"), config);
    this.mlp = layers.mlp(scope.at("mlp"), config);
  }

  /** [B, T, C] -> [B, T, C] */
  forward(x: tf.Tensor, args: ForwardArgs = {}): tf.Tensor {
    x = tf.add(x, this.attn.forward(this.ln1.forward(x), args));
    x = tf.add(x, this.mlp.forward(this.ln2.forward(x), args));
    return tap("block", x);
  }
}

export class Transformer {
  readonly config: FullConfig;
  readonly wte: Parameter; // [V, C]: token embeddings
  readonly wpe: Parameter | undefined; // [block_size, C]: position embeddings; none where `pos` chooses another encoding
  readonly position: Position; // that one
  readonly blocks: readonly AnyBlock[];
  readonly lnF: Norm;

  /** @param wte the token embeddings, where they are another transformer's too */
  constructor(scope: Scope, config: FullConfig, layers: Layers, wte?: Parameter) {
    const { vocab_size: V, block_size, n_embd: C, n_layer, pos } = config;
    this.config = config;
    this.wte = wte ?? scope.at("wte").parameter("weight", [V, C], NORMAL, "embedding");
    if (pos === "learned") this.wpe = scope.at("wpe").parameter("weight", [block_size, C], NORMAL, "position");
    this.position = layers.position(scope, config);
    this.blocks = Array.from({ length: n_layer }, (_, i) => layers.block(scope.at(`h.${i}`), config, i, this.position));
    this.lnF = layers.lastNorm(scope.at("ln_f"), config);
  }

  /** Token ids [B, T] -> [B, T, C]. With `caches`, one a layer, they also see the positions in those, and join them. */
  forward(ids: tf.Tensor, args: ForwardArgs = {}): tf.Tensor {
    const { rng, caches, positions = ids.shape[1]! } = args;
    let x = embedding(this.wte.value, ids); // [B, T, C]
    x = this.wpe ? tf.add(x, positionEmbedding(this.wpe, positions)) : addPositions(x, this.position, positions);
    x = dropout(x, this.config.dropout, rng);
    for (const [i, block] of this.blocks.entries()) x = recomputeLayer(block, x, { ...args, cache: caches?.[i] });
    return this.lnF.forward(x);
  }
}

export const textbook = { LayerNorm, CausalSelfAttention, MLP, attention, Block, Transformer }; // as lib/nn/variant.ts takes them

// ---- the language model --------------------------------------------------------------------------------------------

export class GPT {
  readonly config: FullConfig;
  readonly parameters: Parameter[] = [];
  readonly transformer: AnyTransformer;
  readonly lmHead: Parameter; // [V, C]: the output layer; wte itself unless untied (Press and Wolf 2017)

  /** All weights at their start but the random ones, which are 0 until `initWeights` or until a checkpoint is loaded.
   * @throws Error where a choice has no such name, or numbers don't fit each other */
  constructor(given: GPTConfig) {
    const config: FullConfig = { ...LAYER_CHOICES, ...given };
    checkChoices(config);
    this.config = config;
    const root = new Scope(this.parameters);
    this.transformer = newTransformer(root.at("transformer"), config, textbook);
    const { wte } = this.transformer;
    this.lmHead = config.tie_weights ? wte : root.at("lm_head").parameter("weight", wte.shape, NORMAL, "head");
  }

  /** Draw the random weights, each a function of the seed and its name. */
  initWeights(seed: number): this {
    randomWeights(this.parameters, seed);
    return this;
  }

  /** Token ids [B, T], after a source where the model has an encoder -> what the last layer makes of each position [B, T, C]. */
  forward(ids: tf.Tensor, args: ForwardArgs = {}): tf.Tensor {
    const [T, { block_size }] = [ids.shape[1]!, this.config];
    if (!args.positions && T > block_size) throw new Error(`${T} tokens don't fit into block_size ${block_size}`);
    return this.transformer.forward(ids, args);
  }

  /** The output layer: [..., C] -> logits [..., V]. */
  head(x: tf.Tensor): tf.Tensor {
    return softCap(linear(x, this.lmHead.value, undefined, true), this.config.logit_softcap);
  }

  /** Token ids [B, T] -> logits [B, T, V] of the token after each position, or at it (an encoder's). */
  logits(ids: tf.Tensor, source: Partial<SourceInputs> = {}): tf.Tensor {
    return this.head(this.forward(ids, source));
  }

  /** The logits [B, V] of the token after position `last`, an int32 [1]: the output layer runs on that one alone. */
  nextLogits(ids: tf.Tensor, last: tf.Tensor, source: Partial<SourceInputs> = {}): tf.Tensor {
    return this.head(tf.squeeze(tf.gather(this.forward(ids, source), last, 1), [1]));
  }

  /** Mean cross-entropy, in nats a token, of targets [B, T] (or [B, M], those of `batch.masked_positions`) given ids [B, T] and a
   * source; a target of -1 doesn't count. With an rng, in training, there is dropout, and a mixture of experts adds its
   * routers' losses. */
  loss(ids: tf.Tensor, targets: tf.Tensor, rng?: DropoutRng, batch: BatchInputs = {}): tf.Scalar {
    const { architecture, vocab_size } = this.config;
    const routers: tf.Tensor[] = [];
    const { masked_positions, ...source } = batch;
    let x = this.forward(ids, { ...source, rng, training: rng !== undefined, routers });
    if (masked_positions) x = gatherPositions(x, masked_positions); // the output layer runs on those alone
    const logits = tf.reshape(this.head(x), [targets.size, vocab_size]);
    const loss = crossEntropy(logits, tf.reshape(targets, [targets.size]), architecture !== "decoder");
    return addRouterLosses(loss, routers, this.config);
  }

  /** Shorten the longest context: the position embeddings beyond it are cut off. */
  cropBlockSize(block_size: number): void {
    if (block_size > this.config.block_size) {
      throw new Error(`block_size ${this.config.block_size} can be cropped, not extended to ${block_size}`);
    }
    this.config.block_size = block_size;
    for (const parameter of this.parameters) if (parameter.role === "position") parameter.crop(block_size);
  }

  /** How many weights there are, by default without the position embeddings (the token embeddings count: they are the
   * output layer too). */
  numParams(nonEmbedding = true): number {
    const counted = this.parameters.filter(({ role }) => !(nonEmbedding && role === "position"));
    return counted.reduce((sum, { size }) => sum + size, 0);
  }

  /** Floating point operations of one forward and backward pass over a token, and over one of its source, if any (PaLM,
   * Chowdhery et al. 2022, appendix B); of experts only the active ones count.
   * @param targets how many each token has: less than 1 where an encoder guesses some */
  flopsPerToken(targets = 1): number {
    const { n_layer, n_embd, block_size } = this.config;
    const weights = this.numParams() - inactiveWeights(this.transformer) - (1 - targets) * this.lmHead.size;
    return 6 * weights + 12 * (this.transformer.attentions ?? n_layer) * n_embd * block_size;
  }

  /** Model FLOPs utilisation, 0 to 1: what `sequences` of block_size in `seconds` need, over the machine's `peak` in FLOP/s. */
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
