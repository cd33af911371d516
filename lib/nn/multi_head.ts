// Multi-head attention by model.ts' formula, in training, evaluation and sampling: with the kernels of attention.ts and
// cached_attention.ts if they compute the same, else with the formula itself.

import { tf } from "../common/tf.ts";

import { causalAttention } from "./attention.ts";
import { cachedAttention } from "./cached_attention.ts";
import type { ModelConfig } from "./choices.ts";
import type { DropoutRng } from "./dropout.ts";
import { computesTheSame, fixedRng, type Kernel, numbers } from "./fast.ts";
import type { ForwardArgs } from "./forward_args.ts";
import { attend, GPT2_ATTENTION } from "./general_attention.ts";
import { headsOf, mergeHeads, packedQkv, type Qkv } from "./heads.ts";
import type { Positions } from "./position.ts";
import { blocksBy } from "./query_blocks.ts";
import type { AttentionFormula } from "./textbook.ts";

export class MultiHead {
  readonly formula: AttentionFormula;
  readonly #config: ModelConfig;
  /** Do the kernels compute the formula? */
  readonly isFast: boolean;

  constructor(formula: AttentionFormula, config: ModelConfig) {
    this.formula = formula;
    this.#config = config;
    this.isFast = [inBlocks, farApart(config.block_size)].every((kernel) => computesTheSame(kernel, formula));
  }

  /** query, key and value [B, T, C], all heads side by side -> [B, T, C]. With a cache they also attend to the positions in it. */
  forward(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, args: ForwardArgs): tf.Tensor {
    const parts: Qkv = [query, key, value];
    const { n_head: H } = this.#config;
    if (args.cache) {
      const qkv = packedQkv(parts);
      return cachedAttention(qkv ? [qkv] : parts, args.cache, { H, formula: this.formula, fused: this.isFast });
    }
    return mergeHeads(this.heads(headsOf(parts, H), args.positions ?? query.shape[1]!, args.rng));
  }

  /** [B, H, T, D] each -> [B, H, T, D] */
  heads([query, key, value]: Qkv, positions: Positions, rng?: DropoutRng): tf.Tensor {
    const { dropout: rate, attention } = this.#config;
    if (this.isFast && attention !== "dense" && typeof positions === "number") {
      return inHeads(query, key, value, rate, rng, ...blocksBy(this.#config));
    }
    const at = typeof positions === "number" ? tf.range(0, positions, 1, "float32") : tf.cast(positions, "float32");
    return this.formula(query, key, value, at, at, rate, rng);
  }
}

/** `causalAttention` of [B, H, T, D]. */
function inHeads(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, ...options: CausalOptions): tf.Tensor {
  const [B, H, T, D] = query.shape as [number, number, number, number];
  const [q, k, v] = [query, key, value].map((x) => tf.reshape(x, [B * H, T, D])) as [tf.Tensor, tf.Tensor, tf.Tensor];
  return tf.reshape(causalAttention(q, k, v, ...options), [B, H, T, D]);
}

type CausalOptions =
  Parameters<typeof causalAttention> extends [unknown, unknown, unknown, ...infer Rest] ? Rest : never;

/** Causal attention in blocks of two queries, with dropout and without. Two sizes of heads, so that no constant scale fits both. */
const inBlocks: Kernel<AttentionFormula> = {
  name: "attention",
  run: (query, key, value, _at, _from, rate, rng) => inHeads(query, key, value, rate, rng, 2, true),
  samples: () =>
    [5, 3].map((D) => {
      const [query, key, value] = threeOf([1, 2, 3, D], [1, 2, 3, D]);
      const positions = [tf.range(0, 3), tf.range(0, 3)] as const;
      return D === 5 ? [query, key, value, ...positions, 0.4, fixedRng()] : [query, key, value, ...positions];
    }),
};

/** The computation of cached_attention.ts' operator: few queries, of which the last one has a whole context before it. */
const farApart = (block_size: number): Kernel<AttentionFormula> => ({
  name: `attention, ${block_size} positions`,
  run: (query, key, value, at, from) => attend(query, key, value, at, from, GPT2_ATTENTION),
  samples: () => {
    const at = tf.tensor1d([block_size >> 1, block_size - 1]);
    const from = tf.tensor1d(Array.from({ length: 16 }, (_, i) => Math.round(((block_size - 1) * i) / 15)));
    return [[...threeOf([1, 1, 2, 4], [1, 1, 16, 4]), at, from]];
  },
});

const threeOf = (queries: number[], keys: number[]): [tf.Tensor, tf.Tensor, tf.Tensor] => [
  numbers(queries, 1, 2),
  numbers(keys, 2, 2),
  numbers(keys, 3, 2),
];
