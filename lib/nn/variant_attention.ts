// Self-attention beyond GPT-2: grouped queries, a sliding window or another pattern, position biases and rotation, soft-capped scores,
// normalised queries and keys, or bidirectional. model.ts has GPT-2's.

import { tf } from "../common/tf.ts";

import { cachedAttention } from "./cached_attention.ts";
import type { ModelConfig } from "./choices.ts";
import { dropout } from "./dropout.ts";
import type { ForwardArgs } from "./forward_args.ts";
import { type AttentionChoices, denseAttention, generalAttention } from "./general_attention.ts";
import { mergeHeads, type Qkv, repeatHeads, splitHeads } from "./heads.ts";
import { Linear, residualDeviation, type Scope } from "./module.ts";
import { MultiHead } from "./multi_head.ts";
import { RMSNorm } from "./norm.ts";
import type { Position } from "./position.ts";
import { blocksBy } from "./query_blocks.ts";
import { parametersOf } from "./recompute.ts";
import type { AttentionFormula, Sublayer, TextbookLayers } from "./textbook.ts";

/** The attention that the settings choose: model.ts' own where it does. */
export function newAttention(
  scope: Scope,
  config: ModelConfig,
  position: Position,
  causal: boolean,
  textbook: TextbookLayers,
): Sublayer {
  return isTextbook(config, position, causal)
    ? new textbook.CausalSelfAttention(scope, config)
    : new VariantAttention(scope, config, position, causal, textbook);
}

function isTextbook(config: ModelConfig, position: Position, causal: boolean): boolean {
  const { n_head, n_kv_head, qk_norm } = config;
  return isCausalOnly(config, position, causal) && !qk_norm && !position.turn && (n_kv_head || n_head) === n_head;
}

/** Is it plain causal attention, without biases, caps and other patterns? */
const isCausalOnly = ({ attn_softcap, window }: ModelConfig, position: Position, causal: boolean) =>
  causal && attn_softcap === 0 && window === 0 && !position.bias;

const told = new WeakSet<AttentionFormula>(); // edited formulas that were reported as not used

class VariantAttention {
  readonly cAttn: Linear; // queries of all heads, then keys, then values
  readonly cProj: Linear;
  readonly position: Position;
  readonly qNorm: RMSNorm | undefined;
  readonly kNorm: RMSNorm | undefined;
  readonly #config: ModelConfig;
  readonly #choices: AttentionChoices;
  readonly #plain: MultiHead | undefined; // if only queries and keys differ, and attention itself is GPT-2's

  constructor(scope: Scope, config: ModelConfig, position: Position, causal: boolean, { attention }: TextbookLayers) {
    const { n_embd: C, n_head: H, n_kv_head, bias, window, attn_global, attn_stride, attn_stride_from } = config;
    const D = C / H;
    const width = (n_kv_head || H) * D;
    this.#config = config;
    this.cAttn = new Linear(scope.at("c_attn"), C, C + 2 * width, bias, { splits: [C, width, width] });
    this.cProj = new Linear(scope.at("c_proj"), C, C, bias, { deviation: residualDeviation(config) });
    this.position = position;
    if (config.qk_norm) {
      this.qNorm = new RMSNorm(scope.at("q_norm"), D, false, config.norm_eps);
      this.kNorm = new RMSNorm(scope.at("k_norm"), D, false, config.norm_eps);
    }
    this.#choices = {
      pattern: { causal, window, global: attn_global, stride: attn_stride, strideFrom: attn_stride_from },
      softcap: config.attn_softcap,
      bias: position.bias && ((distance) => position.bias!(distance)),
      biasWeights: parametersOf(position),
    };
    const plain = new MultiHead(attention, config);
    if (isCausalOnly(config, position, causal)) this.#plain = plain;
    else if (!plain.isFast && !told.has(attention)) {
      told.add(attention);
      console.error(
        "but the attention of these settings (positions, window, cap or encoder) is lib/nn's, not model.ts'",
      );
    }
  }

  get isEdited(): boolean {
    return this.#plain !== undefined && !this.#plain.isFast;
  }

  /** [B, T, C] -> [B, T, C] */
  forward(x: tf.Tensor, args: ForwardArgs = {}): tf.Tensor {
    return dropout(this.cProj.forward(this.#attend(this.cAttn.forward(x), args)), this.#config.dropout, args.rng);
  }

  /** qkv [B, T, (H + 2 K) D] -> [B, T, H D] */
  #attend(qkv: tf.Tensor, args: ForwardArgs): tf.Tensor {
    const { position } = this;
    const { n_head: H, n_kv_head, n_embd } = this.#config;
    const [K, D] = [n_kv_head || H, n_embd / H];
    const parts = tf.split(qkv, [H * D, K * D, K * D], 2) as [tf.Tensor, tf.Tensor, tf.Tensor];
    if (args.cache) {
      const formula = this.isEdited ? this.#plain!.formula : undefined;
      const options = { H, K, choices: this.#choices, position, formula, fused: !formula };
      return cachedAttention(this.qNorm ? this.#normal(parts, D) : [qkv], args.cache, options);
    }
    let [query, key, value] = [H, K, K].map((heads, i) => splitHeads(parts[i]!, heads)) as [
      tf.Tensor,
      tf.Tensor,
      tf.Tensor,
    ];
    if (this.qNorm) query = this.qNorm.forward(query);
    if (this.kNorm) key = this.kNorm.forward(key);
    if (position.turn) {
      const at = args.positions ?? qkv.shape[1]!;
      query = position.turn(query, at);
      key = position.turn(key, at);
    }
    return mergeHeads(this.#heads([query, key, value], args));
  }

  /** Queries [B, T, H D] and keys [B, T, K D] normalised, and values as they are. */
  #normal(parts: Qkv, D: number): Qkv {
    const [query, key] = [this.qNorm!, this.kNorm!].map((norm, i) => {
      const x = parts[i]!;
      return tf.reshape(norm.forward(tf.reshape(x, [x.shape[0]!, x.shape[1]!, -1, D])), x.shape);
    });
    return [query!, key!, parts[2]];
  }

  /** query [B, H, T, D], key and value [B, K, T, D] -> [B, H, T, D] */
  #heads(three: Qkv, { positions, rng, keyPaddingMask }: ForwardArgs): tf.Tensor {
    const { attention, dropout: rate, n_head: H } = this.#config;
    const isDense = attention === "dense" || typeof positions === "object";
    if (this.#plain && (this.isEdited || !isDense)) {
      const [query, key, value] = three;
      const same: Qkv = [query, repeatHeads(key, H), repeatHeads(value, H)];
      return this.#plain.heads(same, positions ?? query.shape[2]!, rng);
    }
    if (isDense) return denseAttention(...three, this.#choices, rate, rng, keyPaddingMask, positions);
    return generalAttention(...three, this.#choices, rate, rng, ...blocksBy(this.#config), keyPaddingMask);
  }
}
