// Blocks whose sublayers aren't added up as in model.ts' Block: with a norm of the sum, side by side, or with a source to look at.

import { tf } from "../common/tf.ts";

import type { ModelConfig } from "./choices.ts";
import type { CrossAttention } from "./cross_attention.ts";
import { dropLayer } from "./dropout.ts";
import type { ForwardArgs } from "./forward_args.ts";
import type { Scope } from "./module.ts";
import { tap } from "./tap.ts";
import type { BlockLayers, Norm, Sublayer } from "./textbook.ts";

/** A sublayer that some sequences skip in training (stochastic depth), or with a norm after it (Gemma 2's sandwich). */
export class Branch<Layer extends Sublayer> implements Sublayer {
  readonly layer: Layer;
  readonly post: Norm | undefined;
  readonly #skip: number;

  /** @param skip chance that a sequence does without the sublayer */
  constructor(layer: Layer, post: Norm | undefined, skip: number) {
    this.layer = layer;
    this.post = post;
    this.#skip = skip;
  }

  get isEdited(): boolean | undefined {
    return this.layer.isEdited;
  }

  get inactive(): number | undefined {
    return this.layer.inactive;
  }

  /** [B, T, C] -> [B, T, C] */
  forward(x: tf.Tensor, args: ForwardArgs = {}): tf.Tensor {
    const y = dropLayer(this.layer.forward(x, args), this.#skip, args.rng);
    return this.post ? this.post.forward(y) : y;
  }
}

/** Makes a block's layers, and where it has a source its attention to that. */
export interface VariantLayers extends BlockLayers {
  cross?(scope: Scope, config: ModelConfig): Branch<CrossAttention>;
}

export class VariantBlock {
  readonly ln1: Norm;
  readonly attn: Sublayer;
  readonly lnCross: Norm | undefined;
  readonly cross: Branch<CrossAttention> | undefined;
  readonly ln2: Norm | undefined; // none if both sublayers share one
  readonly mlp: Sublayer;
  readonly #isParallel: boolean;
  readonly #isPost: boolean;

  constructor(scope: Scope, config: ModelConfig, layers: VariantLayers) {
    this.#isParallel = config.parallel_block;
    this.#isPost = config.norm_position === "post";
    this.ln1 = layers.norm(scope.at("ln_1"), config);
    this.attn = layers.attention(scope.at("attn"), config);
    if (layers.cross) {
      this.lnCross = layers.norm(scope.at("ln_cross"), config);
      this.cross = layers.cross(scope.at("cross_attn"), config);
    }
    if (!config.parallel_block || config.parallel_norms === 2) this.ln2 = layers.norm(scope.at("ln_2"), config);
    this.mlp = layers.mlp(scope.at("mlp"), config);
  }

  /** [B, T, C] -> [B, T, C] */
  forward(x: tf.Tensor, args: ForwardArgs = {}): tf.Tensor {
    const { ln1, attn, lnCross, cross, ln2, mlp } = this;
    if (this.#isParallel) {
      const normal = ln1.forward(x);
      const sum = tf.add(x, attn.forward(normal, args));
      return tap("block", tf.add(sum, mlp.forward(ln2 ? ln2.forward(x) : normal, args))); // two norms: GPT-NeoX; one: GPT-J
    }
    x = this.#add(x, ln1, attn, args);
    if (cross) x = this.#add(x, lnCross!, cross, args);
    return tap("block", this.#add(x, ln2!, mlp, args));
  }

  #add(x: tf.Tensor, norm: Norm, sublayer: Sublayer, args: ForwardArgs): tf.Tensor {
    if (this.#isPost) return norm.forward(tf.add(x, sublayer.forward(x, args))); // Vaswani et al. 2017
    return tf.add(x, sublayer.forward(norm.forward(x), args));
  }
}
