// Self-attention other than GPT-2's, from the product that makes queries, keys and values to their result, in training and
// while text is drawn.

import * as tf from "@tensorflow/tfjs";

import { causalAttention, type LayerCache } from "./attention.ts";
import type { MaskSource } from "./dropout.ts";
import { type FusedKernel, fused } from "./fused.ts";
import { type AttentionChoices, attend, generalAttention, type Pattern } from "./general_attention.ts";
import type { Scope } from "./module.ts";
import { RMSNorm } from "./norm.ts";
import type { Position, Positions } from "./position.ts";
import { tap } from "./tap.ts";

export interface AttentionConfig {
  n_embd: number;
  n_head: number;
  n_kv_head: number; // heads of keys and values; 0 for n_head
  qk_norm: boolean; // normalise queries and keys, head by head (Dehghani et al. 2023, section 2)
  attn_softcap: number;
  window: number;
  attn_global: number;
  attn_stride: number;
  norm_eps: number;
  dropout: number;
}

/** Would GPT-2's attention do? */
export function isPlain(config: AttentionConfig, position: Position): boolean {
  const { n_head, n_kv_head, qk_norm, attn_softcap, window } = config;
  const fewer = n_kv_head !== 0 && n_kv_head !== n_head;
  return !fewer && !qk_norm && attn_softcap === 0 && window === 0 && !position.turn && !position.bias;
}

export class AttentionVariant {
  readonly position: Position;
  readonly qNorm: RMSNorm | undefined;
  readonly kNorm: RMSNorm | undefined;
  readonly #config: AttentionConfig;
  readonly choices: AttentionChoices;

  constructor(scope: Scope, config: AttentionConfig, position: Position) {
    this.#config = config;
    this.position = position;
    const D = config.n_embd / config.n_head;
    if (config.qk_norm) {
      this.qNorm = new RMSNorm(scope.at("q_norm"), D, false, config.norm_eps);
      this.kNorm = new RMSNorm(scope.at("k_norm"), D, false, config.norm_eps);
    }
    const { window, attn_global: global, attn_stride: stride, attn_softcap: softcap } = config;
    const pattern: Pattern = { causal: true, window, global, stride };
    this.choices = { pattern, softcap, bias: position.bias && ((distance) => position.bias!(distance)) };
  }

  /**
   * @param qkv [B, T, (H + 2 K) D]: queries of all heads, then keys, then values
   * @param positions of these tokens
   * @returns [B, T, H D]
   */
  forward(qkv: tf.Tensor, positions: Positions, mask?: MaskSource, cache?: LayerCache): tf.Tensor {
    const { n_head: H, n_kv_head, dropout: rate } = this.#config;
    const K = n_kv_head || H;
    const [B, T] = qkv.shape as [number, number];
    const D = qkv.shape[2]! / (H + 2 * K);
    const parts = tf.split(qkv, [H * D, K * D, K * D], 2);
    let [query, key, value] = [H, K, K].map((heads, i) =>
      tf.transpose(tf.reshape(parts[i]!, [B, T, heads, D]), [0, 2, 1, 3]),
    ) as [tf.Tensor, tf.Tensor, tf.Tensor];
    if (this.qNorm) query = this.qNorm.forward(query);
    if (this.kNorm) key = this.kNorm.forward(key);
    if (this.position.turn) {
      query = this.position.turn(query, positions);
      key = this.position.turn(key, positions);
    }
    tap("query", query);
    tap("key", key);
    const result = cache
      ? this.#cached(query, key, value, cache)
      : this.#isCausalOnly()
        ? tf.reshape(causalAttention(...this.#asMany(query, key, value), rate, mask), [B, H, T, D])
        : generalAttention(query, key, value, this.choices, rate, mask);
    return tf.reshape(tf.transpose(result, [0, 2, 1, 3]), [B, T, H * D]);
  }

  #isCausalOnly(): boolean {
    const { pattern, softcap, bias } = this.choices;
    return pattern.window === 0 && softcap === 0 && !bias;
  }

  /** Each [B * H, T, D]: heads of keys and values once for each head of queries that they serve. */
  #asMany(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor): [tf.Tensor, tf.Tensor, tf.Tensor] {
    const [B, H, T, D] = query.shape as [number, number, number, number];
    const K = key.shape[1]!;
    const many = (x: tf.Tensor) =>
      tf.reshape(K === H ? x : tf.tile(tf.reshape(x, [B * K, 1, T * D]), [1, H / K, 1]), [B * H, T, D]);
    return [tf.reshape(query, [B * H, T, D]), many(key), many(value)];
  }

  /** As nn/attention.ts' cachedAttention. */
  #cached(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, cache: LayerCache): tf.Tensor {
    const { room } = cache;
    if (!room) {
      const all = [tf.concat([cache.key, key], 2), tf.concat([cache.value, value], 2)] as const;
      cache.updated = { key: all[0], value: all[1] };
      // counted, so that no constant depends on how many there are: an exported model serves any number
      const places = tf.cumsum(tf.ones([all[0].shape[2]!]), 0, true);
      return attend(query, ...all, tf.cast(cache.positions, "float32"), places, this.choices);
    }
    const { pattern, softcap, bias } = this.choices;
    const inputs = [query, key, value, cache.key, cache.value, cache.positions, room.places, room.last, room.total];
    const kernel = inPlace(this.choices);
    // the runtime's operator knows windows and caps, but no other pattern, and heads of a multiple of 8 only
    const fits = query.shape[3]! % 8 === 0 && !bias && pattern.global === 0 && pattern.stride === 0;
    const attrs = { window: pattern.window, softcap };
    const run = fits ? fused(kernel, inputs, attrs) : kernel.plain(inputs, attrs);
    const [y, newKey, newValue] = run as [tf.Tensor, tf.Tensor, tf.Tensor];
    cache.updated = { key: newKey, value: newValue };
    return y;
  }
}

/** query [B, H, T, D], key, value [B, K, T, D], then as inPlaceAttention of nn/attention.ts. */
function inPlace(choices: AttentionChoices): FusedKernel {
  return {
    name: "InPlaceAttentionVariant",
    plain([query, key, value, oldKey, oldValue, positions, places]) {
      const [T, S] = [positions!.size, places!.size];
      const [B, K] = oldKey!.shape as [number, number];
      const is = tf.cast(tf.equal(tf.reshape(places!, [1, S]), tf.reshape(positions!, [T, 1])), "float32"); // [T, S]
      const old = tf.reshape(tf.sub(1, tf.sum(is, 0)), [S, 1]);
      const spread = tf.broadcastTo(tf.reshape(is, [1, 1, T, S]), [B, K, T, S]);
      const put = (cache: tf.Tensor, rows: tf.Tensor) => tf.add(tf.mul(cache, old), tf.matMul(spread, rows, true));
      const [newKey, newValue] = [put(oldKey!, key!), put(oldValue!, value!)];
      const [at, of] = [tf.cast(positions!, "float32"), tf.cast(places!, "float32")];
      return [attend(query!, newKey, newValue, at, of, choices), newKey, newValue];
    },
    lower(g, inputs, { window, softcap }, { inputs: shapes }) {
      const [query, key, value, oldKey, oldValue, , , last, total] = inputs as string[];
      const [[, H], [, K]] = shapes as [number[], number[]];
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
      // [B, T, H D] -> [B, H, T, D]
      const D = (shapes[0] as number[])[3]!;
      const split = g.emit("Reshape", [y!, g.ints([0, 0, H!, D])]);
      return [g.emit("Transpose", [split], { perm: [0, 2, 1, 3] }), newKey!, newValue!];
    },
  };
}
