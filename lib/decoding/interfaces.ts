// What the rest of the program may ask of a model. model.ts has the one that there is; another that does the same can be
// trained, sampled and exported by the same scripts.

import type * as tf from "@tensorflow/tfjs";

import type { FullConfig } from "../../model.ts";
import type { LayerCache } from "../nn/cached_attention.ts";
import type { Given, Source } from "../nn/context.ts";
import type { MemoryKeys } from "../nn/cross_attention.ts";
import type { MaskSource } from "../nn/dropout.ts";
import type { Parameter } from "../nn/parameter.ts";

/** Something with weights. */
export interface Model {
  readonly config: FullConfig;
  readonly parameters: readonly Parameter[];
  /** How many weights there are, by default without position embeddings. */
  numParams(nonEmbedding?: boolean): number;
  /** Draw the random weights: `fillNormal(array, name, deviation)` fills one. */
  initWeights(fillNormal: (out: Float32Array, name: string, deviation: number) => void): void;
  /** The optimizer's two groups: those that weight decay is for, and the others. */
  decayGroups(): { decay: Parameter[]; noDecay: Parameter[] };
}

/** Gives each next token a probability. */
export interface LanguageModel extends Model {
  /** Token ids [B, T] (after a source, where the model has an encoder) -> logits [B, T, V] of the token that follows each. */
  logits(ids: tf.Tensor, source?: Source): tf.Tensor;
  /** Mean cross-entropy, in nats a token, of targets [B, T] (or of the positions `given.guessed`, [B, M]) given ids [B, T]; with a
   * mask source dropout is on. */
  loss(ids: tf.Tensor, targets: tf.Tensor, mask?: MaskSource, given?: Given): tf.Scalar;
}

/** Can be asked for one token after the other. */
export interface GenerativeModel extends LanguageModel {
  /** The logits [B, V] of the token after position `at`, an int32 [1]. */
  nextLogits(ids: tf.Tensor, at: tf.Tensor, source?: Source): tf.Tensor;
  /** Has it an encoder, which reads a source? */
  readonly encoder?: object | undefined;
  /** Keys and values of a source, tokens [B, S] at `positions`, int32 [S], for each layer, to be put into the caches. */
  readSource(ids: tf.Tensor, positions: tf.Tensor): MemoryKeys[];
  /** Tokens [B, T] at `positions`, int32 [T], which also see those in the caches, one a layer, and join them -> [B, T, C]. */
  cachedForward(ids: tf.Tensor, positions: tf.Tensor, caches: readonly LayerCache[]): tf.Tensor;
  /** The output layer: [..., C] -> logits [..., V]. */
  head(x: tf.Tensor): tf.Tensor;
}
