// What model.ts shows of GPT-2, as lib/nn takes it: a variant uses these parts wherever they do, so that what is changed in model.ts
// is changed in it too.

import type { tf } from "../common/tf.ts";

import type { ModelConfig } from "./choices.ts";
import type { DropoutRng } from "./dropout.ts";
import type { ForwardArgs } from "./forward_args.ts";
import type { Linear, Scope } from "./module.ts";
import type { Parameter } from "./parameter.ts";

export interface Textbook {
  LayerNorm: NewNorm;
  CausalSelfAttention: new (scope: Scope, config: ModelConfig) => Attention;
  MLP: new (scope: Scope, config: ModelConfig) => FeedForward;
  attention: AttentionFormula;
}

export interface Norm {
  readonly weight: Parameter; // [C]
  readonly bias?: Parameter | undefined; // [C]
  /** [..., C] -> [..., C] */
  forward(x: tf.Tensor): tf.Tensor;
}

export type NewNorm = new (scope: Scope, C: number, bias: boolean, epsilon: number) => Norm;

export interface Attention {
  readonly cAttn: Linear;
  readonly cProj: Linear;
  readonly isEdited?: boolean; // is model.ts' formula not GPT-2's any more? A variant says so
  /** [B, T, C] -> [B, T, C] */
  forward(x: tf.Tensor, args?: ForwardArgs): tf.Tensor;
}

export interface FeedForward {
  /** [B, T, C] -> [B, T, C] */
  forward(x: tf.Tensor, args?: ForwardArgs): tf.Tensor;
  readonly inactive?: number; // weights that a token does not pass
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
