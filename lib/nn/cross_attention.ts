// Cross-attention of a decoder to an encoded source (Vaswani et al. 2017, section 3.2.3): queries come from the text, keys and values
// from the source. It has the model's number of key heads; windows, caps and positions are only for self-attention.

import { tf } from "../common/tf.ts";

import type { ModelConfig } from "./choices.ts";
import { dropout } from "./dropout.ts";
import type { ForwardArgs, SourceKeys } from "./forward_args.ts";
import { ALL, denseAttention, generalAttention } from "./general_attention.ts";
import { mergeHeads, splitHeads } from "./heads.ts";
import { Linear, residualDeviation, type Scope } from "./module.ts";
import { blocksBy } from "./query_blocks.ts";

export class CrossAttention {
  readonly cQ: Linear; // [C, H D]
  readonly cKv: Linear; // [C, 2 K D]: keys of all heads, then values
  readonly cProj: Linear;
  readonly #config: ModelConfig;

  constructor(scope: Scope, config: ModelConfig) {
    const { n_embd: C, n_head: H, n_kv_head, bias } = config;
    this.#config = config;
    this.cQ = new Linear(scope.at("c_q"), C, C, bias);
    const width = ((n_kv_head || H) * C) / H; // of all keys, and of all values
    this.cKv = new Linear(scope.at("c_kv"), C, 2 * width, bias, { splits: [width, width] });
    this.cProj = new Linear(scope.at("c_proj"), C, C, bias, { deviation: residualDeviation(config) });
  }

  /** x [B, T, C] -> attention to the encoded source (or its keys in the cache) for each position [B, T, C] */
  forward(x: tf.Tensor, { rng, encoded, cache }: ForwardArgs): tf.Tensor {
    const { n_head: H, dropout: rate, attention } = this.#config;
    const { key, value } = cache?.source ?? this.keys(encoded!.x);
    const three = [splitHeads(this.cQ.forward(x), H), key, value] as const;
    const [block, keepWeights] = blocksBy(this.#config);
    const result =
      cache || attention === "dense" // with a cache, of any length
        ? denseAttention(...three, ALL, rate, rng, encoded?.keyPaddingMask)
        : generalAttention(...three, ALL, rate, rng, block, keepWeights, encoded?.keyPaddingMask);
    return dropout(this.cProj.forward(mergeHeads(result)), rate, rng);
  }

  /** The keys and values of an encoded source [B, S, C]: the same for the whole target. */
  keys(x: tf.Tensor): SourceKeys {
    const [key, value] = tf.split(this.cKv.forward(x), 2, 2) as [tf.Tensor, tf.Tensor];
    const K = this.#config.n_kv_head || this.#config.n_head;
    return { key: splitHeads(key, K), value: splitHeads(value, K) };
  }
}
