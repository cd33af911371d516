// Attention masks.

import { tf } from "../common/tf.ts";

/** Added to an attention score: its exponential is 0. */
export const HIDDEN = -1e30;

/** The number of text tokens in S positions, int32 [B] -> key padding mask, float32 [B, S]: 1 on the padding after them, else 0 */
export function keyPaddingMask(length: tf.Tensor, S: number): tf.Tensor {
  const positions = tf.range(0, S, 1, "int32");
  return tf.cast(tf.greaterEqual(tf.reshape(positions, [1, S]), tf.reshape(length, [-1, 1])), "float32");
}
