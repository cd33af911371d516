// A decoder's attention to a source that an encoder has read (Vaswani et al. 2017, section 3.2.3): queries come from the text,
// keys and values from the source. It has the model's heads of keys; windows, caps and positions are self-attention's.

import * as tf from "@tensorflow/tfjs";

import type { Context } from "./context.ts";
import { dropout } from "./dropout.ts";
import { ALL, denseAttention, generalAttention } from "./general_attention.ts";
import { Linear, type Scope } from "./module.ts";
import { type BlockChoices, blocksBy } from "./query_blocks.ts";

export interface CrossAttentionConfig extends BlockChoices {
  n_embd: number;
  n_head: number;
  n_kv_head: number; // heads of keys and values; 0 for n_head
  bias: boolean;
  dropout: number;
}

/** A source's keys and values for one layer, each [B, K, S, D]. In a cache all of it is text. */
export interface MemoryKeys {
  key: tf.Tensor;
  value: tf.Tensor;
}

export class CrossAttention {
  readonly cQ: Linear; // [C, H D]
  readonly cKv: Linear; // [C, 2 K D]: keys of all heads, then values
  readonly cProj: Linear;
  readonly #config: CrossAttentionConfig;

  constructor(scope: Scope, config: CrossAttentionConfig, deviation: number) {
    const { n_embd: C, n_head: H, n_kv_head, bias } = config;
    this.#config = config;
    this.cQ = new Linear(scope.at("c_q"), C, C, bias);
    const width = ((n_kv_head || H) * C) / H; // of all keys, and of all values
    this.cKv = new Linear(scope.at("c_kv"), C, 2 * width, bias, { splits: [width, width] });
    this.cProj = new Linear(scope.at("c_proj"), C, C, bias, { deviation });
  }

  /** x [B, T, C] -> what the context's memory (or the keys of it in its cache) has for each position [B, T, C] */
  forward(x: tf.Tensor, { mask, memory, cache }: Context): tf.Tensor {
    const { n_head: H, dropout: rate, attention } = this.#config;
    const { key, value } = cache?.memory ?? this.keys(memory!.x);
    const three = [heads(this.cQ.forward(x), H), key, value] as const;
    const [block, keepWeights] = blocksBy(this.#config);
    const result =
      cache || attention === "dense" // with a cache, of any length
        ? denseAttention(...three, ALL, rate, mask, memory?.hides)
        : generalAttention(...three, ALL, rate, mask, block, keepWeights, memory?.hides);
    const [B, T, C] = x.shape as [number, number, number];
    return dropout(this.cProj.forward(tf.reshape(tf.transpose(result, [0, 2, 1, 3]), [B, T, C])), rate, mask);
  }

  /** The keys and values of what an encoder made of a source, [B, S, C]: the same for all that is written after it. */
  keys(x: tf.Tensor): MemoryKeys {
    const [key, value] = tf.split(this.cKv.forward(x), 2, 2) as [tf.Tensor, tf.Tensor];
    const K = this.#config.n_kv_head || this.#config.n_head;
    return { key: heads(key, K), value: heads(value, K) };
  }
}

/** [B, T, H D] -> [B, H, T, D] */
function heads(x: tf.Tensor, H: number): tf.Tensor {
  const [B, T, C] = x.shape as [number, number, number];
  return tf.transpose(tf.reshape(x, [B, T, H, C / H]), [0, 2, 1, 3]);
}

/** How many of S positions are text, int32 [B] -> 1 behind them, 0 before: float32 [B, S] */
export function sourceEnds(length: tf.Tensor, S: number): tf.Tensor {
  const places = tf.range(0, S, 1, "int32");
  return tf.cast(tf.greaterEqual(tf.reshape(places, [1, S]), tf.reshape(length, [-1, 1])), "float32");
}
