// Which keys a query sees.

import { tf } from "../common/tf.ts";

/** Added to an attention score: its exponential is 0. */
export const HIDDEN = -1e30;

/** How many of S positions are text, int32 [B] -> 1 on the padding behind them, else 0: float32 [B, S] */
export function keyPaddingMask(length: tf.Tensor, S: number): tf.Tensor {
  const positions = tf.range(0, S, 1, "int32");
  return tf.cast(tf.greaterEqual(tf.reshape(positions, [1, S]), tf.reshape(length, [-1, 1])), "float32");
}
