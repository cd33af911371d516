// Attention with anything that can be chosen: fewer heads of keys, a window or another pattern, biases, capped scores.
// Exact, block by block of queries, in plain tfjs with tfjs' own gradients. The plain causal case has a faster form in
// attention.ts.

import * as tf from "@tensorflow/tfjs";

import { dropout, type MaskSource } from "./dropout.ts";
import type { Positions } from "./position.ts";

/** Which keys a query at position i sees. */
export interface Pattern {
  causal: boolean; // only those up to i
  window: number; // of these the last so many, i itself included (and as many after it); 0 for all
  global: number; // and the first so many positions of the text (Longformer, Beltagy et al. 2020, section 3.1), which see all
  stride: number; // and every position j with j % stride = stride - 1 (Sparse Transformers' fixed pattern, Child et al. 2019,
  // section 4.3); 0 for none
}

export interface AttentionChoices {
  pattern: Pattern;
  softcap: number; // scores become softcap tanh(score / softcap) (Gemma 2, section 2); 0 for as they are
  bias?: ((distance: tf.Tensor) => tf.Tensor) | undefined; // as in position.ts
}

/** GPT-2's: each position sees itself and all before it. */
export const GPT2_ATTENTION: AttentionChoices = {
  pattern: { causal: true, window: 0, global: 0, stride: 0 },
  softcap: 0,
};

/** Everything sees everything. */
export const ALL: AttentionChoices = { pattern: { ...GPT2_ATTENTION.pattern, causal: false }, softcap: 0 };

const HIDDEN = -1e30; // added to a score: its exponential is 0
const BLOCK = 128;

/**
 * @param query [B, H, T, D]
 * @param key [B, K, S, D], as value; K divides H: each head of keys serves H / K heads of queries (Ainslie et al. 2023)
 * @param rate dropout on the attention weights, if there is a mask source
 * @param options.hides float32 [B, S]: 1 where nobody sees a key, else 0
 * @param options.positions of queries and keys, from 0 on; a tensor where nothing may depend on how many there are: then it is one block
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
  { hides, positions = query.shape[2]! }: { hides?: tf.Tensor | undefined; positions?: Positions } = {},
): tf.Tensor {
  if (typeof positions !== "number") block = query.shape[2]!;
  const [T, S] = [query.shape[2]!, key.shape[2]!];
  const results: tf.Tensor[] = [];
  for (let from = 0; from < T; from += block) {
    const end = Math.min(T, from + block);
    const queries = rows(query, from, end);
    const parts = visible(choices.pattern, from, end, S);
    const [keys, values] = [key, value].map((x) => joined(parts.map(([a, b]) => rows(x, a, b)))) as [
      tf.Tensor,
      tf.Tensor,
    ];
    const hidden =
      hides &&
      joined(
        parts.map(([a, b]) => (b - a === S ? hides : tf.slice(hides, [0, a], [-1, b - a]))),
        1,
      );
    const at = (a: number, b: number) =>
      typeof positions === "number" ? tf.range(a, b, 1, "float32") : tf.cast(part(positions, a, b), "float32");
    const places = joined(
      parts.map(([a, b]) => at(a, b)),
      0,
    );
    results.push(attend(queries, keys, values, at(from, end), places, choices, rate, mask, hidden));
  }
  return joined(results);
}

/** The ranges of S keys of which a query from `from` to `end` - 1 may see some. A strided pattern may need any. */
function visible(pattern: Pattern, from: number, end: number, S: number): (readonly [number, number])[] {
  const { causal, window, global, stride } = pattern;
  const last = causal ? end : S;
  if (window === 0 || stride > 0 || (!causal && from < global)) return [[0, last]];
  const start = Math.max(0, from - window + 1);
  const near = [start, Math.min(last, end + window - 1)] as const;
  const first = Math.min(global, start);
  return first > 0 ? [[0, first], near] : [near];
}

const rows = (x: tf.Tensor, from: number, end: number) =>
  from === 0 && end === x.shape[2] ? x : tf.slice(x, [0, 0, from, 0], [-1, -1, end - from, -1]);
const part = (x: tf.Tensor, from: number, end: number) =>
  from === 0 && end === x.shape[0] ? x : tf.slice(x, [from], [end - from]);
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
  hides?: tf.Tensor,
): tf.Tensor {
  const [B, H, T, D] = query.shape as [number, number, number, number];
  const [K, S] = [key.shape[1]!, key.shape[2]!];
  const weights = dropout(attentionWeights(query, key, positions, places, choices, hides), rate, mask);
  return tf.reshape(tf.matMul(tf.reshape(weights, [B, K, (H / K) * T, S]), value), [B, H, T, D]);
}

/** How much each query looks at each key, as in `attend`: [B, H, T, S], rows that sum to 1. */
export function attentionWeights(
  query: tf.Tensor,
  key: tf.Tensor,
  positions: tf.Tensor,
  places: tf.Tensor,
  { pattern, softcap, bias }: AttentionChoices,
  hides?: tf.Tensor,
): tf.Tensor {
  const [B, H, T, D] = query.shape as [number, number, number, number];
  const [K, S] = [key.shape[1]!, key.shape[2]!];
  const grouped = tf.reshape(tf.mul(query, 1 / Math.sqrt(D)), [B, K, (H / K) * T, D]);
  let scores = tf.reshape(tf.matMul(grouped, key, false, true), [B, H, T, S]);
  if (softcap > 0) scores = tf.mul(tf.tanh(tf.div(scores, softcap)), softcap);
  const distance = tf.sub(tf.reshape(positions, [T, 1]), tf.reshape(places, [1, S]));
  if (bias) scores = tf.add(scores, bias(distance));
  if (hides) scores = tf.add(scores, tf.reshape(tf.mul(hides, HIDDEN), [B, 1, 1, S]));
  const unseen = unseenBy(pattern, distance, positions, places);
  return tf.softmax(unseen ? tf.add(scores, tf.mul(unseen, HIDDEN)) : scores);
}

/** 1 where the pattern doesn't let a query see a key, else 0: [T, S]; undefined where it lets all see all. */
function unseenBy(
  { causal, window, global, stride }: Pattern,
  distance: tf.Tensor,
  positions: tf.Tensor,
  places: tf.Tensor,
): tf.Tensor | undefined {
  const later = causal ? tf.less(distance, 0) : undefined;
  if (window === 0) return later && tf.cast(later, "float32");
  let far: tf.Tensor = tf.greaterEqual(causal ? distance : tf.abs(distance), window);
  const S = places.size;
  if (global > 0) far = tf.logicalAnd(far, tf.reshape(tf.greaterEqual(places, global), [1, S]));
  if (global > 0 && !causal) far = tf.logicalAnd(far, tf.reshape(tf.greaterEqual(positions, global), [-1, 1]));
  if (stride > 0) {
    const phase = tf.sub(places, tf.mul(tf.floor(tf.div(places, stride)), stride));
    far = tf.logicalAnd(far, tf.reshape(tf.notEqual(phase, stride - 1), [1, S]));
  }
  return tf.cast(later ? tf.logicalOr(later, far) : far, "float32");
}
