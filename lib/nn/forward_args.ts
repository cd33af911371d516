// The optional arguments of a layer's forward pass.

import type { tf } from "../common/tf.ts";

import type { DropoutRng } from "./dropout.ts";
import type { Positions } from "./position.ts";

export interface ForwardArgs extends Partial<SourceInputs> {
  training?: boolean; // a mixture of experts applies its capacity and collects its router's logits
  rng?: DropoutRng | undefined; // dropout's random numbers; no dropout without them
  positions?: Positions | undefined; // of the tokens; 0 to T - 1 if not given
  caches?: readonly LayerCache[] | undefined; // one per layer, in sampling
  cache?: LayerCache | undefined; // of one layer
  encoded?: EncodedSource | undefined; // a decoder block's
  keyPaddingMask?: tf.Tensor | undefined; // an encoder's, as in EncodedSource
  routers?: tf.Tensor[] | undefined; // a mixture of experts appends its router's logits [B, T, E]
}

/** Source texts, for cross-attention. */
export interface SourceInputs {
  source: tf.Tensor; // token ids, int32 [B, S]
  source_length: tf.Tensor; // how many of them are text, int32 [B]: the rest is padding
}

/** Inputs of a batch besides ids and targets, by architecture. */
export interface BatchInputs extends Partial<SourceInputs> {
  masked_positions?: tf.Tensor; // masked language modelling: the positions of each sequence that the targets are for, int32 [B, M]
}

/** An encoder's output for a source. */
export interface EncodedSource {
  x: tf.Tensor; // [B, S, C]
  keyPaddingMask: tf.Tensor; // float32 [B, S]: 1 on padding, else 0
}

/** A layer's keys and values of earlier positions, each [B, K, S, D], in sampling. */
export interface LayerCache {
  key: tf.Tensor;
  value: tf.Tensor;
  positions: tf.Tensor; // of the new tokens, int32 [T], ascending
  /** For a cache with a fixed capacity of S positions: which of them are new. Without it the cache
   * has exactly the earlier positions, and the new ones are appended. */
  slots?: CacheSlots;
  source?: SourceKeys; // in a model with an encoder
  updated?: { key: tf.Tensor; value: tf.Tensor }; // set by the layer: the cache with the new positions in it
}

export interface CacheSlots {
  keyPositions: tf.Tensor; // 0 to S - 1, int32 [S]
  last: tf.Tensor; // the last new position, for each sequence, int32 [B]
  total: tf.Tensor; // the number of positions, including the new ones, int32 [1]
}

/** A source's keys and values for one layer, each [B, K, S, D]. In a cache there is no padding. */
export interface SourceKeys {
  key: tf.Tensor;
  value: tf.Tensor;
}
