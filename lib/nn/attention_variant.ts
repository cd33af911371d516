// Self-attention other than GPT-2's, from the product that makes queries, keys and values to their result, in training and
// while text is drawn.

import * as tf from "@tensorflow/tfjs";

import { causalAttention } from "./attention.ts";
import { cachedAttention } from "./cached_attention.ts";
import type { Context } from "./context.ts";
import type { MaskSource } from "./dropout.ts";
import { type AttentionChoices, denseAttention, generalAttention } from "./general_attention.ts";
import type { Scope } from "./module.ts";
import { RMSNorm } from "./norm.ts";
import type { Position, Positions } from "./position.ts";
import { type BlockChoices, blocksBy } from "./query_blocks.ts";
import { parametersOf } from "./recompute.ts";
import { tap } from "./tap.ts";

export interface AttentionConfig extends BlockChoices {
  n_embd: number;
  n_head: number;
  n_kv_head: number; // heads of keys and values; 0 for n_head
  qk_norm: boolean; // normalise queries and keys, head by head (Dehghani et al. 2023, section 2)
  attn_softcap: number;
  window: number;
  attn_global: number;
  attn_stride: number;
  attn_stride_from: string;
  norm_eps: number;
  dropout: number;
}

/** Would GPT-2's attention do, where positions see only those before them? */
export function isPlain(config: AttentionConfig, position: Position): boolean {
  const { attention, n_head, n_kv_head, qk_norm, attn_softcap, window } = config;
  const fewer = n_kv_head !== 0 && n_kv_head !== n_head;
  return (
    attention !== "dense" &&
    !fewer &&
    !qk_norm &&
    attn_softcap === 0 &&
    window === 0 &&
    !position.turn &&
    !position.bias
  );
}

type Three = readonly [query: tf.Tensor, key: tf.Tensor, value: tf.Tensor];

export class AttentionVariant {
  readonly position: Position;
  readonly qNorm: RMSNorm | undefined;
  readonly kNorm: RMSNorm | undefined;
  readonly #config: AttentionConfig;
  readonly choices: AttentionChoices;

  constructor(scope: Scope, config: AttentionConfig, position: Position, causal: boolean) {
    this.#config = config;
    this.position = position;
    const D = config.n_embd / config.n_head;
    if (config.qk_norm) {
      this.qNorm = new RMSNorm(scope.at("q_norm"), D, false, config.norm_eps);
      this.kNorm = new RMSNorm(scope.at("k_norm"), D, false, config.norm_eps);
    }
    const { window, attn_global: global, attn_stride: stride, attn_softcap: softcap } = config;
    const strideFrom = config.attn_stride_from;
    this.choices = {
      pattern: { causal, window, global, stride, strideFrom },
      softcap,
      bias: position.bias && ((distance) => position.bias!(distance)),
      biasWeights: parametersOf(position),
    };
  }

  /**
   * @param qkv [B, T, (H + 2 K) D]: queries of all heads, then keys, then values
   * @param positions of these tokens
   * @returns [B, T, H D]
   */
  forward(qkv: tf.Tensor, positions: Positions, { mask, cache, hides }: Context = {}): tf.Tensor {
    const { n_head: H, n_kv_head } = this.#config;
    const K = n_kv_head || H;
    const [B, T] = qkv.shape as [number, number];
    const D = qkv.shape[2]! / (H + 2 * K);
    const parts = tf.split(qkv, [H * D, K * D, K * D], 2);
    if (cache) {
      const { choices, position } = this;
      return cachedAttention(this.qNorm ? this.#normal(parts, D) : [qkv], cache, { H, K, choices, position });
    }
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
    const three = [query, key, value] as const;
    const result = this.#attend(three, positions, mask, hides);
    return tf.reshape(tf.transpose(result, [0, 2, 1, 3]), [B, T, H * D]);
  }

  /** Queries [B, T, H D] and keys [B, T, K D] normalised, and values as they are. */
  #normal(parts: readonly tf.Tensor[], D: number): Three {
    const [query, key] = [this.qNorm!, this.kNorm!].map((norm, i) => {
      const x = parts[i]!;
      return tf.reshape(norm.forward(tf.reshape(x, [x.shape[0]!, x.shape[1]!, -1, D])), x.shape);
    });
    return [query!, key!, parts[2]!];
  }

  /** query [B, H, T, D], key and value [B, K, T, D] -> [B, H, T, D] */
  #attend(three: Three, positions: Positions, mask?: MaskSource, hides?: tf.Tensor): tf.Tensor {
    const { attention, dropout: rate } = this.#config;
    if (attention === "dense" || typeof positions !== "number") {
      return denseAttention(...three, this.choices, rate, mask, hides, positions);
    }
    const [block, keepWeights] = blocksBy(this.#config);
    if (!this.#isCausalOnly()) {
      return generalAttention(...three, this.choices, rate, mask, block, keepWeights, hides);
    }
    return tf.reshape(causalAttention(...this.#asMany(...three), rate, mask, block, keepWeights), three[0].shape);
  }

  #isCausalOnly(): boolean {
    const { pattern, softcap, bias } = this.choices;
    return pattern.causal && pattern.window === 0 && softcap === 0 && !bias;
  }

  /** Each [B * H, T, D]: heads of keys and values once for each head of queries that they serve. */
  #asMany(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor): [tf.Tensor, tf.Tensor, tf.Tensor] {
    const [B, H, T, D] = query.shape as [number, number, number, number];
    const K = key.shape[1]!;
    const many = (x: tf.Tensor) =>
      tf.reshape(K === H ? x : tf.tile(tf.reshape(x, [B * K, 1, T * D]), [1, H / K, 1]), [B * H, T, D]);
    return [tf.reshape(query, [B * H, T, D]), many(key), many(value)];
  }
}
