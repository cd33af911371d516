// Soft capping (Gemma 2, section 2): bounds values smoothly.

import { tf } from "../common/tf.ts";

/** cap tanh(x / cap); x itself for a cap of 0. Any shape. */
export const softCap = (x: tf.Tensor, cap: number): tf.Tensor => (cap > 0 ? tf.mul(tf.tanh(tf.div(x, cap)), cap) : x);
