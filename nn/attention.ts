// Causal attention (Vaswani et al. 2017, equation 1), computed block by block of queries, with its own gradient.

import * as tf from "@tensorflow/tfjs";

import { dropMasked, type MaskSource } from "./dropout.ts";
import { withGradient } from "./fused.ts";

/** Queries of one block. A block looks only at the keys that it may see: no T x T matrix is ever made, and of the
 * products that the causal mask throws away only those on the diagonal are computed. */
const BLOCK = 128;

/**
 * softmax(query key^T / sqrt(D), position i seeing the positions up to i) value, exactly.
 * @param query [N, T, D], as key and value; N counts batch and heads
 * @param rate dropout on the attention weights, if there is a mask source
 * @returns [N, T, D]
 */
export function causalAttention(
  query: tf.Tensor,
  key: tf.Tensor,
  value: tf.Tensor,
  rate = 0,
  mask: MaskSource | undefined = undefined,
  block = BLOCK,
): tf.Tensor {
  const [N, T, D] = query.shape as [number, number, number];
  const count = Math.ceil(T / block);
  const ends = Array.from({ length: count }, (_, i) => Math.min(T, (i + 1) * block));
  const keeps = mask && rate > 0 ? ends.map((end, i) => mask([N, end - i * block, end], rate)) : [];
  const scale = 1 / (1 - rate);

  return withGradient([query, key, value], (query, key, value) => {
    const scaled = tf.mul(query!, 1 / Math.sqrt(D));
    const queries = cut(scaled, block);
    const seen: tf.Tensor[] = []; // what each block's queries give: [N, block, D]
    const weights: tf.Tensor[] = []; // how much each of them looks at each key: [N, block, end]
    for (const [i, end] of ends.entries()) {
      const products = tf.matMul(queries[i]!, upTo(key!, end), false, true);
      weights[i] = tf.softmax(tf.add(products, causalMask(i * block, end)));
      const kept = keeps[i] ? dropMasked(weights[i]!, keeps[i]!, scale) : weights[i]!;
      seen[i] = tf.matMul(kept, upTo(value!, end));
    }
    const result = tf.concat(seen, 1);
    const saved = [scaled, key!, value!, result, ...weights, ...keeps];
    return { value: result, saved, gradient: (dy, saved) => attentionGrad(dy, saved, ends, block, scale) };
  });
}

/**
 * dy -> dquery, dkey, dvalue. With weights P of a block and o its result, softmax's gradient needs rowsum(P dP), which
 * is rowsum(o dy) (Dao et al. 2022, appendix B.2): a sum over D numbers a row and not over all keys. Dropout does not
 * change that.
 */
function attentionGrad(dy: tf.Tensor, saved: tf.Tensor[], ends: number[], block: number, scale: number): tf.Tensor[] {
  const [scaled, key, value, result, ...rest] = saved as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, ...tf.Tensor[]];
  const weights = rest.slice(0, ends.length);
  const keeps = rest.slice(ends.length);
  const D = key.shape[2]!;
  const rowSums = cut(tf.sum(tf.mul(dy, result), -1, true), block);
  const [dys, queries] = [cut(dy, block), cut(scaled, block)];
  const dQueries: tf.Tensor[] = [];
  const dKeys: tf.Tensor[] = []; // each block's share, [N, end, D]
  const dValues: tf.Tensor[] = [];
  for (const [i, end] of ends.entries()) {
    const weight = weights[i]!;
    const drop = (x: tf.Tensor) => (keeps[i] ? dropMasked(x, keeps[i]!, scale) : x);
    dValues[i] = tf.matMul(drop(weight), dys[i]!, true);
    const dWeight = drop(tf.matMul(dys[i]!, upTo(value, end), false, true));
    const dScores = tf.mul(weight, tf.sub(dWeight, rowSums[i]!));
    dQueries[i] = tf.matMul(dScores, upTo(key, end));
    dKeys[i] = tf.matMul(dScores, queries[i]!, true);
  }
  const dQuery = tf.mul(tf.concat(dQueries, 1), 1 / Math.sqrt(D));
  return [dQuery, addPrefixes(dKeys, block), addPrefixes(dValues, block)];
}

/** Blocks of rows of x [N, T, ...]. */
function cut(x: tf.Tensor, block: number): tf.Tensor[] {
  const T = x.shape[1]!;
  if (T <= block) return [x];
  const sizes = Array.from({ length: Math.ceil(T / block) }, (_, i) => Math.min(block, T - i * block));
  return tf.split(x, sizes, 1);
}

/** The first rows of x [N, T, D]. */
function upTo(x: tf.Tensor, end: number): tf.Tensor {
  return end === x.shape[1] ? x : tf.slice(x, [0, 0, 0], [-1, end, -1]);
}

/** The sum of parts [N, end, D] that all start at row 0 and have one block more each. */
function addPrefixes(parts: tf.Tensor[], block: number): tf.Tensor {
  if (parts.length === 1) return parts[0]!;
  const pieces = parts.map((part) => cut(part, block));
  const sums = parts.map((_, j) => tf.addN(pieces.slice(j).map((piece) => piece[j]!)));
  return tf.concat(sums, 1);
}

/** 0 where the query at from + i may see key j, else a number whose exponential is 0: [end - from, end]. */
function causalMask(from: number, end: number): tf.Tensor2D {
  const mask = new Float32Array((end - from) * end);
  for (let i = from; i < end; i++) mask.fill(-1e30, (i - from) * end + i + 1, (i - from + 1) * end);
  return tf.tensor2d(mask, [end - from, end]);
}
