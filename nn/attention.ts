// Causal attention (Vaswani et al. 2017, equation 1), computed block by block of queries, with its own gradient.

import * as tf from "@tensorflow/tfjs";

import { dropMasked, type MaskSource } from "./dropout.ts";
import { withGradient } from "./fused.ts";

/** Queries of one block. A block looks only at the keys that it may see: no T x T matrix is ever made, and of the
 * products that the causal mask throws away only those on the diagonal are computed. */
const BLOCK = 128;

/** Up to this many positions the backward pass takes the weights that the forward pass made. Beyond, it makes them
 * again, block by block: what is kept is then linear in T and not quadratic, for a sixth more products. */
const KEEP_WEIGHTS = 512;

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
  keepWeights = query.shape[1]! <= KEEP_WEIGHTS,
): tf.Tensor {
  const [N, T, D] = query.shape as [number, number, number];
  const count = Math.ceil(T / block);
  const ends = Array.from({ length: count }, (_, i) => Math.min(T, (i + 1) * block));
  const keeps = mask && rate > 0 ? ends.map((end, i) => mask([N, end - i * block, end], rate)) : [];
  const scale = 1 / (1 - rate);

  return withGradient([query, key, value], (query, key, value) => {
    const scaled = tf.mul(query!, 1 / Math.sqrt(D));
    const queries = cut(scaled, block);
    const weights = ends.map((end, i) => () => weightsOf(queries[i]!, upTo(key!, end), i * block));
    const kept = keepWeights ? weights.map((make) => make()) : [];
    const seen = ends.map((end, i) => {
      const weight = kept[i] ?? weights[i]!();
      const dropped = keeps[i] ? dropMasked(weight, keeps[i]!, scale) : weight;
      return tf.matMul(dropped, upTo(value!, end)); // [N, block, D]
    });
    const result = tf.concat(seen, 1);
    const saved = [scaled, key!, value!, result, ...keeps, ...kept];
    return {
      value: result,
      saved,
      gradient: (dy, saved) => attentionGrad(dy, saved, ends, block, scale, keeps.length),
    };
  });
}

/** qkv [B, T, 3C], the query, key and value of all heads side by side -> each as [B * H, T, C / H]. */
export function splitHeads(qkv: tf.Tensor, H: number): [tf.Tensor, tf.Tensor, tf.Tensor] {
  const [B, T, C] = [qkv.shape[0]!, qkv.shape[1]!, qkv.shape[2]! / 3];
  const turned = tf.transpose(tf.reshape(qkv, [B, T, 3, H, C / H]), [2, 0, 3, 1, 4]);
  return tf.split(tf.reshape(turned, [3 * B * H, T, C / H]), 3) as [tf.Tensor, tf.Tensor, tf.Tensor];
}

/** What `splitHeads` took apart: [B * H, T, D] -> [B, T, H * D], the heads' results side by side. */
export function joinHeads(x: tf.Tensor, H: number): tf.Tensor {
  const [B, T, D] = [x.shape[0]! / H, x.shape[1]!, x.shape[2]!];
  return tf.reshape(tf.transpose(tf.reshape(x, [B, H, T, D]), [0, 2, 1, 3]), [B, T, H * D]);
}

/** How much each query looks at each key: softmax(q k^T + mask), [N, block, end], for the block that starts at `from`. */
function weightsOf(queries: tf.Tensor, keys: tf.Tensor, from: number): tf.Tensor {
  return tf.softmax(tf.add(tf.matMul(queries, keys, false, true), causalMask(from, keys.shape[1]!)));
}

/**
 * dy -> dquery, dkey, dvalue. With weights P of a block and o its result, softmax's gradient needs rowsum(P dP), which
 * is rowsum(o dy) (Dao et al. 2022, appendix B.2): a sum over D numbers a row and not over all keys. Dropout does not
 * change that.
 */
function attentionGrad(
  dy: tf.Tensor,
  saved: tf.Tensor[],
  ends: number[],
  block: number,
  scale: number,
  masks: number,
): tf.Tensor[] {
  const [scaled, key, value, result, ...rest] = saved as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, ...tf.Tensor[]];
  const [keeps, kept] = [rest.slice(0, masks), rest.slice(masks)];
  const D = key.shape[2]!;
  const rowSums = cut(tf.sum(tf.mul(dy, result), -1, true), block);
  const [dys, queries] = [cut(dy, block), cut(scaled, block)];
  const dQueries: tf.Tensor[] = [];
  const dKeys: tf.Tensor[] = []; // each block's share, [N, end, D]
  const dValues: tf.Tensor[] = [];
  for (const [i, end] of ends.entries()) {
    const weight = kept[i] ?? weightsOf(queries[i]!, upTo(key, end), i * block);
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

const masks = new Map<string, Float32Array>(); // by shape: every layer takes the same ones

/** 0 where the query at from + i may see key j, else a number whose exponential is 0: [end - from, end]. */
function causalMask(from: number, end: number): tf.Tensor2D {
  const name = `${from} ${end}`;
  const mask = masks.get(name) ?? new Float32Array((end - from) * end);
  if (!masks.has(name)) {
    for (let i = from; i < end; i++) mask.fill(-1e30, (i - from) * end + i + 1, (i - from + 1) * end);
    masks.set(name, mask);
  }
  return tf.tensor2d(mask, [end - from, end]);
}
