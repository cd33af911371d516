// The layers that model.ts shows of GPT-2, as lib/nn takes them: a variant uses them wherever they do, so that what is changed in
// model.ts is changed in it too.

import type { tf } from "../common/tf.ts";

import type { ModelConfig } from "./choices.ts";
import type { DropoutRng } from "./dropout.ts";
import type { ForwardArgs } from "./forward_args.ts";
import type { Scope } from "./module.ts";
import type { Parameter } from "./parameter.ts";

export interface TextbookLayers {
  LayerNorm: NewNorm;
  CausalSelfAttention: new (scope: Scope, config: ModelConfig) => Sublayer;
  MLP: new (scope: Scope, config: ModelConfig) => Sublayer;
  attention: AttentionFormula;
}

export interface Norm {
  /** [..., C] -> [..., C] */
  forward(x: tf.Tensor): tf.Tensor;
}

export interface WeightedNorm extends Norm {
  readonly weight: Parameter; // [C]
  readonly bias?: Parameter | undefined; // [C]
}

export type NewNorm = new (scope: Scope, C: number, bias: boolean, epsilon: number) => WeightedNorm;

/** What a block adds to x: attention, or a feed-forward layer. */
export interface Sublayer {
  /** [B, T, C] -> [B, T, C] */
  forward(x: tf.Tensor, args?: ForwardArgs): tf.Tensor;
  readonly isEdited?: boolean | undefined; // attention: is model.ts' formula not GPT-2's any more? A variant says so
  readonly inactive?: number | undefined; // feed-forward: weights that a token does not pass
}

/** Makes the layers of a block. */
export interface BlockLayers {
  norm(scope: Scope, config: ModelConfig): Norm;
  attention(scope: Scope, config: ModelConfig): Sublayer;
  mlp(scope: Scope, config: ModelConfig): Sublayer;
}

/**
 * Attention of queries [B, H, T, D] at the positions `at` (float [T]) to keys and values [B, H, S, D] at `from` (float [S]):
 * [B, H, T, D]. With an rng, dropout of the weights with probability `rate`.
 */
export type AttentionFormula = (
  query: tf.Tensor,
  key: tf.Tensor,
  value: tf.Tensor,
  at: tf.Tensor,
  from: tf.Tensor,
  rate?: number,
  rng?: DropoutRng,
) => tf.Tensor;
