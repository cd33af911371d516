// The one place where settings beyond GPT-2 enter a model: model.ts' Transformer and Block are made with other layers, with two
// transformers where there is an encoder and a decoder, and with the blocks of variant_block.ts where Block's sums aren't theirs.

import { tf } from "../common/tf.ts";

import { type BlockRole, type ModelConfig, roles } from "./choices.ts";
import { CrossAttention } from "./cross_attention.ts";
import { numbers, onCpu } from "./fast.ts";
import { newFeedForward } from "./feed_forward.ts";
import type { ForwardArgs, SourceKeys } from "./forward_args.ts";
import { keyPaddingMask } from "./mask.ts";
import { Scope } from "./module.ts";
import { newNorm } from "./norm.ts";
import type { Parameter } from "./parameter.ts";
import { type Position, positions } from "./position.ts";
import type { BlockLayers, Norm, Sublayer, TextbookLayers } from "./textbook.ts";
import { newAttention } from "./variant_attention.ts";
import { Branch, VariantBlock } from "./variant_block.ts";

/** What model.ts shows of GPT-2. */
export interface Textbook extends TextbookLayers {
  Block: new (scope: Scope, config: ModelConfig, layers: BlockLayers) => AnyBlock;
  Transformer: new (scope: Scope, config: ModelConfig, layers: Layers, wte?: Parameter) => AnyTransformer;
}

export interface AnyBlock {
  readonly attn: Sublayer;
  readonly mlp: Sublayer;
  /** [B, T, C] -> [B, T, C] */
  forward(x: tf.Tensor, args?: ForwardArgs): tf.Tensor;
}

/** A model up to its output layer: model.ts' Transformer, or two of them. */
export interface AnyTransformer {
  readonly wte: Parameter; // [V, C]: token embeddings
  readonly wpe?: Parameter | undefined; // [block_size, C]: position embeddings, if learned
  readonly blocks: readonly AnyBlock[];
  readonly encoder?: AnyTransformer; // of the source, if any
  readonly attentions?: number; // attention layers; n_layer if not given
  /** Token ids [B, T] -> the last block's output [B, T, C] */
  forward(ids: tf.Tensor, args?: ForwardArgs): tf.Tensor;
  /** Keys and values of a source, with an encoder: see EncoderDecoder. */
  readSource?(ids: tf.Tensor, positions: tf.Tensor): SourceKeys[];
}

/** The transformer of a `config`. */
export function newTransformer(scope: Scope, config: ModelConfig, textbook: Textbook): AnyTransformer {
  const role = roles[config.architecture];
  return role === "crossing"
    ? new EncoderDecoder(scope, config, textbook)
    : new textbook.Transformer(scope, config, layersOf(role, textbook));
}

/** The weights that a token doesn't pass: experts that weren't chosen for it. */
export function inactiveWeights({ encoder, blocks }: AnyTransformer): number {
  return [...(encoder?.blocks ?? []), ...blocks].reduce((sum, { mlp }) => sum + (mlp.inactive ?? 0), 0);
}

/** Makes what a transformer consists of besides its tables of embeddings. */
export interface Layers {
  position(scope: Scope, config: ModelConfig): Position;
  /** Number `i`, from 0. */
  block(scope: Scope, config: ModelConfig, i: number, position: Position): AnyBlock;
  /** Behind the last block. */
  lastNorm(scope: Scope, config: ModelConfig): Norm;
}

/** Those that the settings choose: model.ts' own wherever they do. */
export function layersOf(role: BlockRole, textbook: Textbook): Layers {
  const causal = role !== "encoder";
  const norm: BlockLayers["norm"] = (scope, config) => newNorm(scope, config, textbook);
  return {
    position: (scope, config) => new positions[config.pos](scope, config, causal),
    lastNorm(scope, config) {
      return config.norm_position === "post" ? { forward: (x) => x } : norm(scope, config); // post-norm blocks end with one
    },
    block(scope, config, i, position) {
      const { norm_position, parallel_block, stochastic_depth, n_layer } = config;
      const skip = stochastic_depth * ((i + 1) / n_layer);
      const postOf = (name: string) =>
        norm_position === "sandwich" ? norm(scope.at(`${name}_post`), config) : undefined;
      function branch(layer: Sublayer, norm: string): Sublayer {
        const post = postOf(norm);
        return post || skip > 0 ? new Branch(layer, post, skip) : layer;
      }
      const layers: BlockLayers = {
        norm,
        attention: (at) => branch(newAttention(at, config, position, causal, textbook), "ln_1"),
        mlp: (at) => branch(newFeedForward(at, config, textbook), "ln_2"),
      };
      const isOther = norm_position === "post" || parallel_block || role === "crossing";
      if (!isOther) return new textbook.Block(scope, config, layers);
      sayIfEdited(textbook.Block, config);
      const cross = (at: Scope) => new Branch(new CrossAttention(at, config), postOf("ln_cross"), skip);
      return new VariantBlock(scope, config, role === "crossing" ? { ...layers, cross } : layers);
    },
  };
}

const checked = new WeakSet<Textbook["Block"]>();

/** A line where model.ts' Block isn't GPT-2's any more, for settings that it doesn't reach. Compares numbers, with a function of a
 * number for each layer. */
function sayIfEdited(Block: Textbook["Block"], config: ModelConfig): void {
  if (checked.has(Block)) return;
  checked.add(Block);
  const isGPT2 = onCpu(() => {
    const x = numbers([1, 2, config.n_embd], 1);
    const layer = (forward: (x: tf.Tensor) => tf.Tensor) => () => ({ forward });
    const layers = { norm: layer(tf.tanh), attention: layer(tf.sin), mlp: layer(tf.cos) };
    const y = tf.add(x, tf.sin(tf.tanh(x)));
    const expected = tf.add(y, tf.cos(tf.tanh(y)));
    const actual = new Block(new Scope([]), config, layers).forward(x);
    return tf.max(tf.abs(tf.sub(actual, expected))).dataSync()[0]! < 1e-6;
  });
  if (isGPT2) return;
  console.error(
    "Block is not GPT-2's any more, but the blocks of these settings (post-norm, parallel or with a source) are lib/nn's",
  );
}

/** An encoder reads a source, and a decoder, whose blocks look at what it made of that, writes (Vaswani et al. 2017). */
export class EncoderDecoder implements AnyTransformer {
  readonly wte: Parameter; // of both
  readonly encoder: AnyTransformer;
  readonly decoder: AnyTransformer;
  readonly attentions: number; // of the source, of the text, and from one to the other
  readonly #block_size: number;

  constructor(scope: Scope, config: ModelConfig, textbook: Textbook) {
    const { vocab_size: V, n_embd: C, n_layer, block_size } = config;
    const { Transformer } = textbook;
    this.#block_size = block_size;
    this.attentions = 3 * n_layer;
    this.wte = scope.at("wte").parameter("weight", [V, C], { normal: 0.02 }, "embedding");
    this.encoder = new Transformer(scope.at("encoder"), config, layersOf("encoder", textbook), this.wte);
    this.decoder = new Transformer(scope, config, layersOf("crossing", textbook), this.wte);
  }

  get blocks(): readonly AnyBlock[] {
    return this.decoder.blocks;
  }

  /** Token ids [B, T] after a source, or with the keys of one in their caches -> [B, T, C] */
  forward(ids: tf.Tensor, args: ForwardArgs = {}): tf.Tensor {
    const { source, source_length, rng, training, routers } = args;
    if (!source) return this.decoder.forward(ids, args);
    const S = source.shape[1]!;
    if (S > this.#block_size) throw new Error(`${S} tokens don't fit into block_size ${this.#block_size}`);
    const padding = keyPaddingMask(source_length!, S);
    const x = this.encoder.forward(source, { rng, training: training ?? false, routers, keyPaddingMask: padding });
    return this.decoder.forward(ids, { ...args, encoded: { x, keyPaddingMask: padding } });
  }

  /** Each layer's keys and values of a source, token ids [B, S] at `positions` (int32 [S]): the same for the whole target. */
  readSource(ids: tf.Tensor, positions: tf.Tensor): SourceKeys[] {
    const x = this.encoder.forward(ids, { positions });
    return this.blocks.map((block) => (block as VariantBlock).cross!.layer.keys(x));
  }
}
