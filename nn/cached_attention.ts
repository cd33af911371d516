// Attention while text is drawn: new positions look at those in a cache, and join it. One plain way, which knows every
// choice, and two forms of the runtime's operator, which writes into the cache where it stands: of GPT-2's packed queries,
// keys and values, and of those that were made otherwise.

import * as tf from "@tensorflow/tfjs";

import { joinHeads, splitHeads } from "./attention.ts";
import type { MemoryKeys } from "./cross_attention.ts";
import { type FusedKernel, fused } from "./fused.ts";
import { type AttentionChoices, attend, GPT2_ATTENTION } from "./general_attention.ts";

/** A layer's keys and values of earlier positions, each [B, K, S, D], while text is drawn. */
export interface LayerCache {
  key: tf.Tensor;
  value: tf.Tensor;
  positions: tf.Tensor; // of the new tokens, int32 [T], ascending
  /** Where the cache has room for S positions, each in its place: which of them are new is told here. Without it the cache
   * is as long as it is full, and the new ones are joined to it. */
  room?: CacheRoom;
  memory?: MemoryKeys; // of a source, in a model that has one
  updated?: { key: tf.Tensor; value: tf.Tensor }; // set by the layer: the cache with the new positions in it
}

export interface CacheRoom {
  places: tf.Tensor; // 0 to S - 1, int32 [S]
  last: tf.Tensor; // the last new position, for each sequence, int32 [B]
  total: tf.Tensor; // how many positions there are with the new ones, int32 [1]
}

/**
 * GPT-2's attention of T new positions to those in the cache and, causally, to themselves. Without a gradient of its own.
 * @param qkv [B, T, 3C]
 * @returns [B, T, C]
 */
export function cachedAttention(qkv: tf.Tensor, H: number, cache: LayerCache): tf.Tensor {
  if (cache.room && fitsOperator(cache)) return runInPlace(packed, [qkv], cache, { H });
  return flat(attendCached(...heads(qkv, H), cache, GPT2_ATTENTION));
}

/**
 * The same of queries, keys and values that are there already, with other choices.
 * @param query [B, H, T, D]
 * @param key [B, K, T, D], as value
 * @returns [B, H, T, D]
 */
export function attendCached(
  query: tf.Tensor,
  key: tf.Tensor,
  value: tf.Tensor,
  cache: LayerCache,
  choices: AttentionChoices,
): tf.Tensor {
  const { room, positions } = cache;
  if (!room) {
    const [keys, values] = [tf.concat([cache.key, key], 2), tf.concat([cache.value, value], 2)];
    cache.updated = { key: keys, value: values };
    // counted, so that no constant depends on how many there are: an exported model serves any number
    const places = tf.cumsum(tf.ones([keys.shape[2]!]), 0, true);
    return attend(query, keys, values, tf.cast(positions, "float32"), places, choices);
  }
  const { pattern, softcap, bias } = choices;
  // the operator knows windows and caps, but no other pattern
  const knows = !bias && pattern.global === 0 && pattern.stride === 0;
  const attrs = { window: pattern.window, softcap };
  return runInPlace(apart(choices), [query, key, value], cache, attrs, knows && fitsOperator(cache));
}

/** The operator takes heads of a multiple of 8 only. */
const fitsOperator = ({ key }: LayerCache) => key.shape[3]! % 8 === 0;

/** Run a kernel on `inputs`, the cache and its room: fused, or its twin. */
function runInPlace(
  kernel: FusedKernel,
  inputs: tf.Tensor[],
  cache: LayerCache,
  attrs: Record<string, number>,
  isFused = true,
): tf.Tensor {
  const { places, last, total } = cache.room!;
  const given = [...inputs, cache.key, cache.value, cache.positions, places, last, total];
  const run = isFused ? fused(kernel, given, attrs) : kernel.plain(given, attrs);
  const [y, key, value] = run as [tf.Tensor, tf.Tensor, tf.Tensor];
  cache.updated = { key, value };
  return y;
}

/** qkv [B, T, 3C] -> query, key, value, [B, H, T, D] each */
function heads(qkv: tf.Tensor, H: number): [tf.Tensor, tf.Tensor, tf.Tensor] {
  const [B, T] = qkv.shape as [number, number];
  return splitHeads(qkv, H).map((x) => tf.reshape(x, [B, H, T, x.shape[2]!])) as [tf.Tensor, tf.Tensor, tf.Tensor];
}

/** [B, H, T, D] -> [B, T, H D] */
function flat(x: tf.Tensor): tf.Tensor {
  const [B, H, T, D] = x.shape as [number, number, number, number];
  return joinHeads(tf.reshape(x, [B * H, T, D]), H);
}

/** New rows [B, K, T, D] at `positions` [T] into the cache [B, K, S, D], whose places are [S]; and attention to it. */
function putAndAttend(
  [query, key, value]: readonly [tf.Tensor, tf.Tensor, tf.Tensor],
  [oldKey, oldValue, positions, places]: readonly tf.Tensor[],
  choices: AttentionChoices,
): [tf.Tensor, tf.Tensor, tf.Tensor] {
  const [T, S] = [positions!.size, places!.size];
  const [B, K] = oldKey!.shape as [number, number];
  const is = tf.cast(tf.equal(tf.reshape(places!, [1, S]), tf.reshape(positions!, [T, 1])), "float32"); // [T, S]
  const old = tf.reshape(tf.sub(1, tf.sum(is, 0)), [S, 1]);
  const spread = tf.broadcastTo(tf.reshape(is, [1, 1, T, S]), [B, K, T, S]);
  const put = (cache: tf.Tensor, rows: tf.Tensor) => tf.add(tf.mul(cache, old), tf.matMul(spread, rows, true));
  const [newKey, newValue] = [put(oldKey!, key), put(oldValue!, value)];
  const [at, of] = [tf.cast(positions!, "float32"), tf.cast(places!, "float32")];
  return [attend(query, newKey, newValue, at, of, choices), newKey, newValue];
}

// Of both kernels: bound to the very arrays of the old cache, the new one's rows are written and nothing is copied.

/** qkv [B, T, 3C], key, value, positions, places, last, total (as in LayerCache) -> y [B, T, C] and the updated cache */
const packed: FusedKernel = {
  name: "InPlaceAttention",
  plain([qkv, ...cache], { H }) {
    const [y, key, value] = putAndAttend(heads(qkv!, H!), cache, GPT2_ATTENTION);
    return [flat(y), key, value];
  },
  lower(g, inputs, { H }) {
    const [qkv, key, value, , , last, total] = inputs as string[];
    const given = [qkv!, "", "", key!, value!, last!, total!];
    return g.emitMany(3, "GroupQueryAttention", given, { num_heads: H!, kv_num_heads: H! }, "com.microsoft");
  },
};

/** query [B, H, T, D], key, value [B, K, T, D], then as `packed` -> y [B, H, T, D] and the updated cache */
const apart = (choices: AttentionChoices): FusedKernel => ({
  name: "InPlaceAttentionApart",
  plain: ([query, key, value, ...cache]) => putAndAttend([query!, key!, value!], cache, choices),
  lower(g, inputs, { window, softcap }, { inputs: shapes }) {
    const [query, key, value, oldKey, oldValue, , , last, total] = inputs as string[];
    const [[, H, , D], [, K]] = shapes as [number[], number[]];
    const flat = (x: string) => {
      const turned = g.emit("Transpose", [x], { perm: [0, 2, 1, 3] });
      return g.emit("Reshape", [turned, g.ints([0, 0, -1])]);
    };
    const given = [flat(query!), flat(key!), flat(value!), oldKey!, oldValue!, last!, total!];
    const attrs = {
      num_heads: H!,
      kv_num_heads: K!,
      ...(window! > 0 && { local_window_size: window! }),
      ...(softcap! > 0 && { softcap: { float: softcap! } }),
    };
    const [y, newKey, newValue] = g.emitMany(3, "GroupQueryAttention", given, attrs, "com.microsoft") as string[];
    const split = g.emit("Reshape", [y!, g.ints([0, 0, H!, D!])]); // [B, T, H D] -> [B, H, T, D]
    return [g.emit("Transpose", [split], { perm: [0, 2, 1, 3] }), newKey!, newValue!];
  },
});
