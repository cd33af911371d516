// A table of vectors, looked up by integer.

import * as tf from "@tensorflow/tfjs";

import { fused, withGradient } from "./fused.ts";

/**
 * @param table [V, C]
 * @param ids [...], int32 in [0, V)
 * @returns [..., C]
 */
export function embedding(table: tf.Tensor, ids: tf.Tensor): tf.Tensor {
  const [V, C] = table.shape as [number, number];
  const flat = tf.reshape(ids, [ids.size]) as tf.Tensor1D;
  const rows = withGradient([table], (table) => ({
    value: tf.gather(table!, flat),
    saved: [flat],
    // rows of dy that were looked up under one id add up
    gradient: (dy, [ids]) =>
      fused("FusedEmbeddingGrad", { dy, ids }, { rows: V }, () => [tf.unsortedSegmentSum(dy, ids as tf.Tensor1D, V)]),
  }));
  return tf.reshape(rows, [...ids.shape, C]);
}
