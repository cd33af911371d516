// Attention with anything that can be chosen: fewer heads of keys, a window or another pattern, biases, capped scores.
// Exact, block by block of queries, in plain tfjs with tfjs' own gradients. The plain causal case has a faster form in
// attention.ts.

import * as tf from "@tensorflow/tfjs";

import { dropout, type MaskSource } from "./dropout.ts";

/** Which keys a query at position i sees, of those up to i. */
export interface Pattern {
  window: number; // the last so many, i itself included; 0 for all
  global: number; // and the first so many positions of the text (Longformer, Beltagy et al. 2020, section 3.1)
  stride: number; // and every position j with j % stride = stride - 1 (Sparse Transformers' fixed pattern, Child et al. 2019,
  // section 4.3); 0 for none
}

export interface AttentionChoices {
  pattern: Pattern;
  softcap: number; // scores become softcap tanh(score / softcap) (Gemma 2, section 2); 0 for as they are
  bias?: ((distance: tf.Tensor) => tf.Tensor) | undefined; // as in position.ts
}

/** GPT-2's: each position sees itself and all before it. */
export const GPT2_ATTENTION: AttentionChoices = { pattern: { window: 0, global: 0, stride: 0 }, softcap: 0 };

const HIDDEN = -1e30; // added to a score: its exponential is 0
const BLOCK = 128;

/**
 * @param query [B, H, T, D]
 * @param key [B, K, S, D], as value; K divides H: each head of keys serves H / K heads of queries (Ainslie et al. 2023)
 * @param rate dropout on the attention weights, if there is a mask source
 * @returns [B, H, T, D]
 */
export function generalAttention(
  query: tf.Tensor,
  key: tf.Tensor,
  value: tf.Tensor,
  choices: AttentionChoices,
  rate = 0,
  mask?: MaskSource,
  block = BLOCK,
): tf.Tensor {
  const T = query.shape[2]!;
  const results: tf.Tensor[] = [];
  for (let from = 0; from < T; from += block) {
    const end = Math.min(T, from + block);
    const queries = rows(query, from, end);
    const parts = visible(choices.pattern, from, end);
    const [keys, values] = [key, value].map((x) => joined(parts.map(([a, b]) => rows(x, a, b)))) as [
      tf.Tensor,
      tf.Tensor,
    ];
    const places = joined(
      parts.map(([a, b]) => tf.range(a, b, 1, "float32")),
      0,
    );
    results.push(attend(queries, keys, values, tf.range(from, end, 1, "float32"), places, choices, rate, mask));
  }
  return joined(results);
}

/** The ranges of keys of which a query from `from` to `end` - 1 may see some. A strided pattern may need any. */
function visible({ window, global, stride }: Pattern, from: number, end: number): (readonly [number, number])[] {
  const start = window > 0 && stride === 0 ? Math.max(0, from - window + 1) : 0;
  const first = Math.min(global, start);
  return first > 0
    ? [
        [0, first],
        [start, end],
      ]
    : [[start, end]];
}

const rows = (x: tf.Tensor, from: number, end: number) =>
  from === 0 && end === x.shape[2] ? x : tf.slice(x, [0, 0, from, 0], [-1, -1, end - from, -1]);
const joined = (parts: tf.Tensor[], axis = 2) => (parts.length === 1 ? parts[0]! : tf.concat(parts, axis));

/**
 * Queries at `positions` (float [T]) to keys at `places` (float [S]).
 * @param query [B, H, T, D]
 * @param key [B, K, S, D], as value
 * @returns [B, H, T, D]
 */
export function attend(
  query: tf.Tensor,
  key: tf.Tensor,
  value: tf.Tensor,
  positions: tf.Tensor,
  places: tf.Tensor,
  choices: AttentionChoices,
  rate = 0,
  mask?: MaskSource,
): tf.Tensor {
  const [B, H, T, D] = query.shape as [number, number, number, number];
  const [K, S] = [key.shape[1]!, key.shape[2]!];
  const weights = dropout(attentionWeights(query, key, positions, places, choices), rate, mask);
  return tf.reshape(tf.matMul(tf.reshape(weights, [B, K, (H / K) * T, S]), value), [B, H, T, D]);
}

/** How much each query looks at each key, as in `attend`: [B, H, T, S], rows that sum to 1. */
export function attentionWeights(
  query: tf.Tensor,
  key: tf.Tensor,
  positions: tf.Tensor,
  places: tf.Tensor,
  { pattern, softcap, bias }: AttentionChoices,
): tf.Tensor {
  const [B, H, T, D] = query.shape as [number, number, number, number];
  const [K, S] = [key.shape[1]!, key.shape[2]!];
  const grouped = tf.reshape(tf.mul(query, 1 / Math.sqrt(D)), [B, K, (H / K) * T, D]);
  let scores = tf.reshape(tf.matMul(grouped, key, false, true), [B, H, T, S]);
  if (softcap > 0) scores = tf.mul(tf.tanh(tf.div(scores, softcap)), softcap);
  const distance = tf.sub(tf.reshape(positions, [T, 1]), tf.reshape(places, [1, S]));
  if (bias) scores = tf.add(scores, bias(distance));
  return tf.softmax(tf.add(scores, tf.mul(hides(pattern, distance, places), HIDDEN)));
}

/** 1 where a query may not see a key, else 0: [T, S]. */
function hides({ window, global, stride }: Pattern, distance: tf.Tensor, places: tf.Tensor): tf.Tensor {
  const later = tf.less(distance, 0);
  if (window === 0) return tf.cast(later, "float32");
  let far: tf.Tensor = tf.greaterEqual(distance, window);
  const S = places.size;
  if (global > 0) far = tf.logicalAnd(far, tf.reshape(tf.greaterEqual(places, global), [1, S]));
  if (stride > 0) {
    const phase = tf.sub(places, tf.mul(tf.floor(tf.div(places, stride)), stride));
    far = tf.logicalAnd(far, tf.reshape(tf.notEqual(phase, stride - 1), [1, S]));
  }
  return tf.cast(tf.logicalOr(later, far), "float32");
}
