// Causal attention (Vaswani et al. 2017, equation 1), computed block by block of queries.

import * as tf from "@tensorflow/tfjs";

import { dropout, type MaskSource } from "./dropout.ts";

/** Queries of one block: against all of its keys no T x T matrix is ever made, and half of the products, which the
 * causal mask would throw away, are not computed. */
const BLOCK = 128;

/**
 * softmax(query key^T / sqrt(D), position i seeing the positions up to i) value, exactly.
 * @param query [N, T, D], as key and value; N counts batch and heads
 * @param rate dropout on the attention weights, if there is a mask source
 * @returns [N, T, D]
 */
export function causalAttention(
  query: tf.Tensor3D,
  key: tf.Tensor3D,
  value: tf.Tensor3D,
  rate = 0,
  mask: MaskSource | undefined = undefined,
  block = BLOCK,
): tf.Tensor3D {
  const [, T, D] = query.shape;
  const scaled: tf.Tensor3D = tf.mul(query, 1 / Math.sqrt(D));
  const blocks: tf.Tensor3D[] = [];
  for (let from = 0; from < T; from += block) {
    const to = Math.min(T, from + block);
    const products = tf.matMul(rows(scaled, from, to), rows(key, 0, to), false, true);
    const weights = tf.softmax(tf.add(products, causalMask(from, to))); // [N, to - from, to]
    blocks.push(tf.matMul(dropout(weights, rate, mask) as tf.Tensor3D, rows(value, 0, to)));
  }
  return blocks.length === 1 ? blocks[0]! : tf.concat(blocks, 1);
}

function rows(x: tf.Tensor3D, from: number, to: number): tf.Tensor3D {
  return from === 0 && to === x.shape[1] ? x : tf.slice(x, [0, from, 0], [-1, to - from, -1]);
}

/** 0 where the query at from + i may see key j, else a number whose exponential is 0: [to - from, to]. */
function causalMask(from: number, to: number): tf.Tensor2D {
  const mask = new Float32Array((to - from) * to);
  for (let i = from; i < to; i++) mask.fill(-1e30, (i - from) * to + i + 1, (i - from + 1) * to);
  return tf.tensor2d(mask, [to - from, to]);
}
