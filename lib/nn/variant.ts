// The one place where a model takes something else than model.ts shows: other positions, blocks of other layers, an encoder.

import { tf } from "../common/tf.ts";

import { type BlockRole, type ModelConfig, roles } from "./choices.ts";
import { dropout } from "./dropout.ts";
import { embedding } from "./embedding.ts";
import type { EncodedSource, ForwardArgs, SourceInputs, SourceKeys } from "./forward_args.ts";
import { keyPaddingMask } from "./mask.ts";
import type { Scope } from "./module.ts";
import { newNorm } from "./norm.ts";
import type { Parameter } from "./parameter.ts";
import { Learned, type Position, positions } from "./position.ts";
import { recomputeLayer } from "./recompute.ts";
import type { Attention, FeedForward, Norm, Textbook } from "./textbook.ts";
import { isTextbookMLP, VariantBlock } from "./variant_block.ts";

/** A model up to its output layer: model.ts' Transformer, or a variant. */
export interface AnyTransformer {
  readonly wte: Parameter; // [V, C]: token embeddings
  readonly wpe?: Parameter | undefined; // [block_size, C]: position embeddings, where it has such
  readonly blocks: readonly { readonly attn: Attention; readonly mlp: FeedForward }[];
  readonly encoder?: Stack | undefined; // of the source, where there is one
  readonly attentions?: number; // attention layers; n_layer if not given
  readonly inactive?: number; // weights that a token doesn't pass; none if not given
  /** Token ids [B, T] -> what the last block makes of each position [B, T, C] */
  forward(ids: tf.Tensor, args?: ForwardArgs): tf.Tensor;
  /** Of a source, where there is an encoder: see VariantTransformer. */
  readSource?(ids: tf.Tensor, positions: tf.Tensor): SourceKeys[];
}

/** The transformer of a `config` that isn't GPT-2's, or undefined. */
export function variantTransformer(
  scope: Scope,
  config: ModelConfig,
  textbook: Textbook,
): VariantTransformer | undefined {
  const { architecture, pos, norm, norm_position, norm_eps, n_head, n_kv_head } = config;
  const isGPT2 =
    architecture === "decoder" &&
    pos === "learned" &&
    (n_kv_head || n_head) === n_head &&
    !(config.window || config.attn_softcap || config.qk_norm || config.parallel_block || config.stochastic_depth) &&
    [norm, norm_position, norm_eps].join() === "layernorm,pre,0.00001" &&
    isTextbookMLP(config);
  return isGPT2 ? undefined : new VariantTransformer(scope, config, textbook);
}

export class VariantTransformer implements AnyTransformer {
  readonly wte: Parameter;
  readonly encoder: Stack | undefined;
  readonly stack: Stack;
  readonly #config: ModelConfig;

  constructor(scope: Scope, config: ModelConfig, textbook: Textbook) {
    const { vocab_size: V, n_embd: C, architecture } = config;
    const role = roles[architecture];
    this.#config = config;
    this.wte = scope.at("wte").parameter("weight", [V, C], { normal: 0.02 }, "embedding");
    if (role === "crossing") this.encoder = new Stack(scope.at("encoder"), config, "encoder", textbook);
    this.stack = new Stack(scope, config, role, textbook);
  }

  /** Of the source, of the text, and from one to the other. */
  get attentions(): number {
    return (this.encoder ? 3 : 1) * this.#config.n_layer;
  }

  get inactive(): number {
    const all = [...(this.encoder?.blocks ?? []), ...this.blocks];
    return all.reduce((sum, { mlp }) => sum + (mlp.inactive ?? 0), 0);
  }

  get blocks(): readonly VariantBlock[] {
    return this.stack.blocks;
  }

  get wpe(): Parameter | undefined {
    return this.stack.position instanceof Learned ? this.stack.position.table : undefined;
  }

  /** Token ids [B, T], after a source where there is an encoder -> [B, T, C] */
  forward(ids: tf.Tensor, args: ForwardArgs = {}): tf.Tensor {
    const encoded = args.source && this.#encode(args as SourceInputs, args);
    return this.stack.forward(embedding(this.wte.value, ids), { ...args, encoded });
  }

  #encode({ source, source_length }: SourceInputs, { rng, training, routers }: ForwardArgs): EncodedSource {
    const S = source.shape[1]!;
    const { block_size } = this.#config;
    if (S > block_size) throw new Error(`${S} tokens don't fit into block_size ${block_size}`);
    const args = { rng, training: training ?? false, routers, keyPaddingMask: keyPaddingMask(source_length, S) };
    const x = this.encoder!.forward(embedding(this.wte.value, source), args);
    return { x, keyPaddingMask: args.keyPaddingMask };
  }

  /** Each layer's keys and values of a source, token ids [B, S] at `positions` (int32 [S]): the same for every token written after it. */
  readSource(ids: tf.Tensor, positions: tf.Tensor): SourceKeys[] {
    const x = this.encoder!.forward(embedding(this.wte.value, ids), { positions });
    return this.blocks.map(({ cross }) => cross!.keys(x));
  }
}

/** Blocks one after the other, with positions before the first and a norm behind the last. */
export class Stack {
  readonly position: Position;
  readonly blocks: VariantBlock[];
  readonly lnF: Norm | undefined;
  readonly #dropout: number;

  constructor(scope: Scope, config: ModelConfig, role: BlockRole, textbook: Textbook) {
    const { n_layer, pos, norm_position } = config;
    this.position = new positions[pos](scope, config, role !== "encoder");
    this.blocks = Array.from({ length: n_layer }, (_, i) => {
      return new VariantBlock(scope.at(`h.${i}`), config, this.position, (i + 1) / n_layer, role, textbook);
    });
    this.lnF = norm_position === "post" ? undefined : newNorm(scope.at("ln_f"), config, textbook);
    this.#dropout = config.dropout;
  }

  /** Embedded tokens [B, T, C] -> [B, T, C] */
  forward(x: tf.Tensor, args: ForwardArgs): tf.Tensor {
    if (this.position.scale) x = tf.mul(x, this.position.scale);
    if (this.position.embed) x = tf.add(x, this.position.embed(args.positions ?? x.shape[1]!));
    x = dropout(x, this.#dropout, args.rng);
    for (const [i, block] of this.blocks.entries()) x = recomputeLayer(block, x, { ...args, cache: args.caches?.[i] });
    return this.lnF ? this.lnF.forward(x) : x;
  }
}
