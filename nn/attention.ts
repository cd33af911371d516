// Causal attention (Vaswani et al. 2017, equation 1), computed block by block of queries, with its own gradient.

import * as tf from "@tensorflow/tfjs";

import { dropMasked, type MaskSource } from "./dropout.ts";
import { type FusedKernel, fused, withGradient } from "./fused.ts";

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

/** A layer's keys and values of earlier positions, each [B, H, S, D], while text is drawn. */
export interface LayerCache {
  key: tf.Tensor;
  value: tf.Tensor;
  positions: tf.Tensor; // of the new tokens, int32 [T], ascending
  /** Where the cache has room for S positions, each in its place: which of them are new is told here. Without it the cache
   * is as long as it is full, and the new ones are joined to it. */
  room?: CacheRoom;
  updated?: { key: tf.Tensor; value: tf.Tensor }; // set by the layer: the cache with the new positions in it
}

export interface CacheRoom {
  places: tf.Tensor; // 0 to S - 1, int32 [S]
  last: tf.Tensor; // the last new position, for each sequence, int32 [B]
  total: tf.Tensor; // how many positions there are with the new ones, int32 [1]
}

/**
 * Attention of T new positions to those in the cache and, causally, to themselves. Without a gradient of its own.
 * @param qkv [B, T, 3C]
 * @returns [B, T, C]
 */
export function cachedAttention(qkv: tf.Tensor, H: number, cache: LayerCache): tf.Tensor {
  const { key, value, positions, room } = cache;
  if (room) {
    const inputs = [qkv, key, value, positions, room.places, room.last, room.total];
    // the runtime's operator takes heads of a multiple of 8 only
    const run =
      key.shape[3]! % 8 === 0 ? fused(inPlaceAttention, inputs, { H }) : inPlaceAttention.plain(inputs, { H });
    const [y, newKey, newValue] = run as [tf.Tensor, tf.Tensor, tf.Tensor];
    cache.updated = { key: newKey, value: newValue };
    return y;
  }
  const [T, S] = [qkv.shape[1]!, key.shape[2]!];
  const [q, k, v] = splitHeads(qkv, H).map((x) => byHead(x, H)) as [tf.Tensor, tf.Tensor, tf.Tensor];
  cache.updated = { key: tf.concat([key, k], 2), value: tf.concat([value, v], 2) };
  const later = tf.greater(tf.reshape(positions, [1, T]), tf.reshape(positions, [T, 1]));
  const bias = tf.concat([tf.zeros([T, S]), tf.mul(tf.cast(later, "float32"), HIDDEN)], 1);
  return attend(q, cache.updated.key, cache.updated.value, bias);
}

const HIDDEN = -1e30; // added to a score: its exponential is 0

const byHead = (x: tf.Tensor, H: number) => tf.reshape(x, [x.shape[0]! / H, H, x.shape[1]!, x.shape[2]!]);

/** softmax(query key^T / sqrt(D) + bias) value: query [B, H, T, D], key and value [B, H, S, D], bias [T, S] -> [B, T, C] */
function attend(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, bias: tf.Tensor): tf.Tensor {
  const [B, H, T, D] = query.shape as [number, number, number, number];
  const scores = tf.matMul(tf.mul(query, 1 / Math.sqrt(D)), key, false, true);
  return joinHeads(tf.reshape(tf.matMul(tf.softmax(tf.add(scores, bias)), value), [B * H, T, D]), H);
}

/**
 * qkv, key, value, positions, places, last, total (as in LayerCache) -> y [B, T, C] and the updated key and value. Where
 * these are bound to the very arrays of the old ones, only the new rows are written: nothing of the cache is copied.
 */
const inPlaceAttention: FusedKernel = {
  name: "InPlaceAttention",
  plain([qkv, key, value, positions, places], { H }) {
    const [T, S] = [positions!.size, places!.size];
    const [q, k, v] = splitHeads(qkv!, H!).map((x) => byHead(x, H!)) as [tf.Tensor, tf.Tensor, tf.Tensor];
    const [row, column] = [tf.reshape(places!, [1, S]), tf.reshape(positions!, [T, 1])];
    const is = tf.cast(tf.equal(row, column), "float32"); // [T, S], 1 at each new position's place
    const old = tf.reshape(tf.sub(1, tf.sum(is, 0)), [S, 1]);
    const B = key!.shape[0]!;
    const put = (cache: tf.Tensor, rows: tf.Tensor) =>
      tf.add(tf.mul(cache, old), tf.matMul(tf.broadcastTo(tf.reshape(is, [1, 1, T, S]), [B, H!, T, S]), rows, true));
    const [newKey, newValue] = [put(key!, k), put(value!, v)];
    const bias = tf.mul(tf.cast(tf.greater(row, column), "float32"), HIDDEN);
    return [attend(q, newKey, newValue, bias), newKey, newValue];
  },
  lower(g, inputs, { H }) {
    const [qkv, key, value, , , last, total] = inputs as string[];
    const given = [qkv!, "", "", key!, value!, last!, total!];
    return g.emitMany(3, "GroupQueryAttention", given, { num_heads: H!, kv_num_heads: H! }, "com.microsoft");
  },
};

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
