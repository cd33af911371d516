// What a layer is told besides its input and where that stands.

import type * as tf from "@tensorflow/tfjs";

import type { LayerCache } from "./cached_attention.ts";
import type { MaskSource } from "./dropout.ts";

export interface Context {
  mask?: MaskSource | undefined; // in training
  cache?: LayerCache | undefined; // while text is drawn
  memory?: Memory | undefined; // a decoder's, of the source
  hides?: tf.Tensor | undefined; // an encoder's: where its input is no text, as in Memory
  routers?: tf.Tensor[] | undefined; // if given, a mixture of experts adds its router's logits [B, T, E]
}

/** Texts that a decoder looks at while it writes others. */
export interface Source {
  source: tf.Tensor; // token ids, int32 [B, S]
  source_length: tf.Tensor; // how many of them are text, int32 [B]: what stands behind is not seen
}

/** What a batch may have besides ids and targets, by the architecture. */
export interface Given extends Partial<Source> {
  guessed?: tf.Tensor; // which positions of each sequence the targets are for, int32 [B, M]; without it, all of them
}

/** What an encoder made of a source. */
export interface Memory {
  x: tf.Tensor; // [B, S, C]
  hides: tf.Tensor; // float32 [B, S]: 1 where the source has ended, else 0
}
