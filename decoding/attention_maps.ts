// How much each position of a text looks at those before it, in every layer and head of a model: what causal attention
// computes and doesn't show. On tfjs' present backend, one text at a time; for pictures.

import * as tf from "@tensorflow/tfjs";

import type { GPT } from "../model.ts";
import { splitHeads } from "../nn/attention.ts";
import { withTaps } from "../nn/tap.ts";

/**
 * For each layer the weights [H, T, T]: softmax(query key^T / sqrt(D)), row i for position i, 0 beyond it.
 * @param ids T tokens, at most block_size
 */
export function attentionMaps(model: GPT, ids: readonly number[]): Float32Array[] {
  const T = ids.length;
  const maps: Float32Array[] = [];
  tf.tidy(() => {
    const later = tf.sub(1, tf.linalg.bandPart(tf.ones([T, T]), -1, 0));
    withTaps(
      (name, x) => {
        if (name !== "qkv") return;
        const [query, key] = splitHeads(x, model.config.n_head) as tf.Tensor3D[]; // [H, T, D]
        const scores = tf.mul(tf.matMul(query!, key!, false, true), 1 / Math.sqrt(key!.shape[2]!));
        maps.push(tf.softmax(tf.add(scores, tf.mul(later, -1e30))).dataSync() as Float32Array);
      },
      () => model.forward(tf.tensor2d([...ids], [1, T], "int32")),
    );
  });
  return maps;
}
