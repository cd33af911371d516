// Attention heads: splits [B, T, n D], n heads side by side, into one matrix per head, and back.

import { tf } from "../common/tf.ts";

export type Qkv = readonly [query: tf.Tensor, key: tf.Tensor, value: tf.Tensor];

/** [B, T, n D] -> [B, n, T, D] */
export function splitHeads(x: tf.Tensor, n: number): tf.Tensor {
  const [B, T, C] = x.shape as [number, number, number];
  return tf.transpose(tf.reshape(x, [B, T, n, C / n]), [0, 2, 1, 3]);
}

/** [B, n, T, D] -> [B, T, n D] */
export function mergeHeads(x: tf.Tensor): tf.Tensor {
  const [B, n, T, D] = x.shape as [number, number, number, number];
  return tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [B, T, n * D]);
}

/** Keys or values [B, K, S, D] -> [B, H, S, D]: each head repeated for each head of queries that it serves. */
export function repeatHeads(x: tf.Tensor, H: number): tf.Tensor {
  const [B, K, S, D] = x.shape as [number, number, number, number];
  return K === H ? x : tf.reshape(tf.tile(tf.reshape(x, [B * K, 1, S * D]), [1, H / K, 1]), [B, H, S, D]);
}

const packed = new WeakMap<tf.Tensor, { qkv: tf.Tensor; parts: Qkv }>(); // by the query

/** [B, T, 3 C] -> query, key and value, [B, T, C] each. */
export function splitQkv(qkv: tf.Tensor): Qkv {
  const parts = tf.split(qkv, 3, 2) as [tf.Tensor, tf.Tensor, tf.Tensor];
  packed.set(parts[0], { qkv, parts });
  return parts;
}

/** The [B, T, 3 C] that `splitQkv` made these three from, or undefined if it made none. Kernels that read it directly
 * save copies; the unused split is then dropped from a traced graph. */
export function packedQkv([query, key, value]: Qkv): tf.Tensor | undefined {
  const found = packed.get(query);
  return found && found.parts[1] === key && found.parts[2] === value ? found.qkv : undefined;
}

/** query, key and value [B, T, C] -> [B, H, T, D] each. */
export function headsOf(parts: Qkv, H: number): Qkv {
  const qkv = packedQkv(parts);
  if (!qkv) return parts.map((x) => splitHeads(x, H)) as unknown as Qkv;
  const [B, T, D] = [qkv.shape[0]!, qkv.shape[1]!, qkv.shape[2]! / 3 / H];
  const turned = tf.transpose(tf.reshape(qkv, [B, T, 3, H, D]), [2, 0, 3, 1, 4]); // one pass over all three
  const split = tf.split(tf.reshape(turned, [3 * B * H, T, D]), 3);
  return split.map((x) => tf.reshape(x, [B, H, T, D])) as unknown as Qkv;
}
