// The optional arguments of a layer's forward pass.

import type { tf } from "../common/tf.ts";

import type { DropoutRng } from "./dropout.ts";
import type { Positions } from "./position.ts";

export interface ForwardArgs extends Partial<SourceInputs> {
  training?: boolean; // a mixture of experts keeps to its capacity, and its router's logits are collected
  rng?: DropoutRng | undefined; // dropout's random numbers; without them there is no dropout
  positions?: Positions | undefined; // of the tokens; 0 to T - 1 if not given
  caches?: readonly LayerCache[] | undefined; // of a model, one a layer, in sampling
  cache?: LayerCache | undefined; // of one layer
  encoded?: EncodedSource | undefined; // a decoder block's
  keyPaddingMask?: tf.Tensor | undefined; // an encoder's, as in EncodedSource
  routers?: tf.Tensor[] | undefined; // a mixture of experts adds its router's logits [B, T, E] to these
}

/** Source texts, for cross-attention. */
export interface SourceInputs {
  source: tf.Tensor; // token ids, int32 [B, S]
  source_length: tf.Tensor; // how many of them are text, int32 [B]: what is behind is padding
}

/** What a batch may have besides ids and targets, by the architecture. */
export interface BatchInputs extends Partial<SourceInputs> {
  guessed?: tf.Tensor; // masked language modelling: the positions of each sequence that the targets are for, int32 [B, M]
}

/** What an encoder made of a source. */
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
  source?: SourceKeys; // in a model that has one
  updated?: { key: tf.Tensor; value: tf.Tensor }; // set by the layer: the cache with the new positions in it
}

export interface CacheSlots {
  keyPositions: tf.Tensor; // 0 to S - 1, int32 [S]
  last: tf.Tensor; // the last new position, for each sequence, int32 [B]
  total: tf.Tensor; // how many positions there are with the new ones, int32 [1]
}

/** A source's keys and values for one layer, each [B, K, S, D]. In a cache all of it is text. */
export interface SourceKeys {
  key: tf.Tensor;
  value: tf.Tensor;
}
