// Attention with all choices: grouped queries, a sliding window or another pattern, biases, soft-capped scores. Exact, over blocks of
// queries, in plain tfjs with tfjs' own gradients. attention.ts has a faster form of the plain causal case; `denseAttention` is the
// slow and obvious one, without blocks.

import { tf } from "../common/tf.ts";

import type { DropoutRng } from "./dropout.ts";
import { HIDDEN } from "./mask.ts";
import type { Parameter } from "./parameter.ts";
import type { Positions } from "./position.ts";
import {
  type AttendBlock,
  attendAgain,
  BLOCK,
  fewWidths,
  inputsOf,
  joined,
  KEEP_WEIGHTS,
  type QueryBlock,
} from "./query_blocks.ts";
import { softCap } from "./softcap.ts";
import { tap } from "./tap.ts";
import { choiceOf, chooseWeights, dropWeights, type WeightDropout } from "./weight_dropout.ts";

/** Which keys a query at position i sees. */
export interface Pattern {
  causal: boolean; // only those up to i
  window: number; // sliding window in tokens, including i (and as many after it if not causal); 0 for all
  global: number; // and this many positions at the start of the text (Longformer, Beltagy et al. 2020, section 3.1), which see all
  stride: number; // and every k-th; 0 for none (Sparse Transformers, Child et al. 2019, section 4.3): with
  strideFrom: string; // "start" positions j with j % stride = stride - 1 (their fixed pattern), with "query" those with (i - j) % stride = 0
}

export interface AttentionChoices {
  pattern: Pattern;
  softcap: number; // of the scores (softcap.ts); 0 for none
  bias?: ((distance: tf.Tensor) => tf.Tensor) | undefined; // as in position.ts
  biasWeights?: readonly Parameter[]; // the weights that it reads
}

/** GPT-2's: each position sees itself and all before it. */
export const GPT2_ATTENTION: AttentionChoices = {
  pattern: { causal: true, window: 0, global: 0, stride: 0, strideFrom: "start" },
  softcap: 0,
};

/** Everything sees everything. */
export const ALL: AttentionChoices = { pattern: { ...GPT2_ATTENTION.pattern, causal: false }, softcap: 0 };

/**
 * @param query [B, H, T, D]
 * @param key [B, K, S, D], as value; K divides H: each head of keys serves H / K heads of queries (Ainslie et al. 2023)
 * @param rate dropout on the attention weights, if there is an rng
 * @param keepWeights does the backward pass reuse the attention weights of the forward pass? Else it recomputes them, and memory is
 *   linear in T
 * @param keyPaddingMask float32 [B, S]: 1 where a key is padding, which no query sees, else 0
 * @returns [B, H, T, D]
 */
export function generalAttention(
  query: tf.Tensor,
  key: tf.Tensor,
  value: tf.Tensor,
  choices: AttentionChoices,
  rate = 0,
  rng: DropoutRng | undefined = undefined,
  block = BLOCK,
  keepWeights = query.shape[2]! <= KEEP_WEIGHTS,
  keyPaddingMask?: tf.Tensor,
): tf.Tensor {
  const blocks = blocksOf(choices.pattern, query.shape[2]!, key.shape[2]!, block, keepWeights);
  const drops = chooseWeights(rate, rng, query, key);
  const attendBlock: AttendBlock = (block, [queries, keys, values, positions], drops, keyPaddingMask) => {
    const places = block.ranges.map(([a, b]) => tf.range(a, b, 1, "float32"));
    const own = ofBlock(choices, block, positions);
    return attend(
      queries,
      keys,
      values,
      positions,
      joined(places, 0),
      own,
      drops,
      keyPaddingMask && paddingOf(keyPaddingMask, block),
    );
  };
  const { biasWeights = [] } = choices;
  if (!keepWeights) return attendAgain([query, key, value], keyPaddingMask, blocks, biasWeights, drops, attendBlock);
  return joined(
    blocks.map((block) =>
      attendBlock(block, inputsOf(block, query, key, value), drops && choiceOf(drops, block), keyPaddingMask),
    ),
  );
}

/** The padding mask of a block's keys. */
function paddingOf(keyPaddingMask: tf.Tensor, { ranges }: QueryBlock): tf.Tensor {
  const part = ([a, b]: readonly [number, number]) =>
    b - a === keyPaddingMask.shape[1] ? keyPaddingMask : tf.slice(keyPaddingMask, [0, a], [-1, b - a]);
  return joined(ranges.map(part), 1);
}

/** The gradient of a learned bias sums over all scores of one distance: so the bias is looked up for each distance and laid along the
 * diagonals, not looked up for each score. */
function ofBlock(choices: AttentionChoices, { from, end, ranges }: QueryBlock, positions: tf.Tensor): AttentionChoices {
  const { bias, biasWeights = [] } = choices;
  if (!bias || biasWeights.length === 0) return choices;
  const T = end - from;
  const last = tf.slice(positions, [T - 1], [1]);
  const part = ([a, b]: readonly [number, number]) => {
    const distance = tf.sub(last, tf.range(a, b + T, 1, "float32")); // descending, from the last query's to the first key
    return diagonals(bias(tf.reshape(distance, [1, b - a + T])), T);
  };
  return { ...choices, bias: () => joined(ranges.map(part)) };
}

/** x [H, 1, S + T] -> [H, T, S]: element T - 1 - i + j of x at row i, column j. */
function diagonals(x: tf.Tensor, T: number): tf.Tensor {
  const [H, , P] = x.shape as [number, number, number];
  // rows of P, flattened and cut into rows of P - 1: each begins one element further back
  const flat = tf.reshape(tf.broadcastTo(x, [H, T, P]), [H, T * P]);
  const shifted = tf.reshape(tf.slice(flat, [0, T - 1], [-1, T * (P - 1)]), [H, T, P - 1]);
  return tf.slice(shifted, [0, 0, 0], [-1, -1, P - T]);
}

/** Blocks of T queries over S keys. */
function blocksOf(pattern: Pattern, T: number, S: number, block: number, keepWeights: boolean): QueryBlock[] {
  const { causal, window, stride } = pattern;
  const froms = Array.from({ length: Math.ceil(T / block) }, (_, i) => i * block);
  const ends = froms.map((from) => Math.min(T, from + block));
  // rounded up, there are more keys than a block may see; the pattern masks the rest
  const some = keepWeights || (window > 0 && stride === 0) ? ends : fewWidths(ends, block);
  return froms.map((from, i) => {
    return { from, end: ends[i]!, ranges: visible(pattern, from, ends[i]!, causal ? some[i]! : S) };
  });
}

/** The same with the whole matrix of attention weights: the textbook form, which the others must equal.
 * @param positions of queries and keys; a tensor if no constant may depend on their number */
export function denseAttention(
  query: tf.Tensor,
  key: tf.Tensor,
  value: tf.Tensor,
  choices: AttentionChoices,
  rate = 0,
  rng?: DropoutRng,
  keyPaddingMask?: tf.Tensor,
  positions?: Positions,
): tf.Tensor {
  const given = typeof positions === "object" ? tf.cast(positions, "float32") : undefined;
  const places = (x: tf.Tensor) => given ?? tf.range(0, x.shape[2]!, 1, "float32");
  const drops = chooseWeights(rate, rng, query, key);
  return attend(query, key, value, places(query), places(key), choices, drops, keyPaddingMask);
}

/** The ranges of keys, up to `last`, that queries from `from` to `end` - 1 may see. A strided pattern may need any, and so may one whose
 * first positions see all. */
function visible(pattern: Pattern, from: number, end: number, last: number): (readonly [number, number])[] {
  const { causal, window, global, stride } = pattern;
  if (window === 0 || stride > 0 || (!causal && global > 0)) return [[0, last]];
  const start = Math.max(0, from - window + 1);
  const near = [start, causal ? last : Math.min(last, end + window - 1)] as const;
  const first = Math.min(global, start);
  return first > 0 ? [[0, first], near] : [near];
}

/**
 * Queries at `positions` (float [T]) to keys at `keyPositions` (float [S]).
 * @param query [B, H, T, D]
 * @param key [B, K, S, D], as value
 * @returns [B, H, T, D]
 */
export function attend(
  query: tf.Tensor,
  key: tf.Tensor,
  value: tf.Tensor,
  positions: tf.Tensor,
  keyPositions: tf.Tensor,
  choices: AttentionChoices,
  drops?: WeightDropout,
  keyPaddingMask?: tf.Tensor,
): tf.Tensor {
  const [B, H, T, D] = query.shape as [number, number, number, number];
  const [K, S] = [key.shape[1]!, key.shape[2]!];
  const all = tap("attention", attentionWeights(query, key, positions, keyPositions, choices, keyPaddingMask));
  const weights = dropWeights(all, drops);
  return tf.reshape(tf.matMul(tf.reshape(weights, [B, K, (H / K) * T, S]), value), [B, H, T, D]);
}

/** The attention weights of `attend`: [B, H, T, S], rows that sum to 1. */
export function attentionWeights(
  query: tf.Tensor,
  key: tf.Tensor,
  positions: tf.Tensor,
  keyPositions: tf.Tensor,
  { pattern, softcap, bias }: AttentionChoices,
  keyPaddingMask?: tf.Tensor,
): tf.Tensor {
  const [B, H, T, D] = query.shape as [number, number, number, number];
  const [K, S] = [key.shape[1]!, key.shape[2]!];
  const grouped = tf.reshape(tf.mul(query, 1 / Math.sqrt(D)), [B, K, (H / K) * T, D]);
  let scores = softCap(tf.reshape(tf.matMul(grouped, key, false, true), [B, H, T, S]), softcap);
  const distance = distances(positions, keyPositions);
  if (bias) scores = tf.add(scores, bias(distance));
  if (keyPaddingMask) scores = tf.add(scores, tf.reshape(tf.mul(keyPaddingMask, HIDDEN), [B, 1, 1, S]));
  const unseen = unseenBy(pattern, distance, positions, keyPositions);
  return tf.softmax(unseen ? tf.add(scores, tf.mul(unseen, HIDDEN)) : scores);
}

/** The bias and mask added to the scores of queries at `positions` (int32 [T]) for keys at `keyPositions` (int32 [S]): [1 or H, T, S]. */
export function scoreBias(
  { bias, pattern }: AttentionChoices,
  positions: tf.Tensor,
  keyPositions: tf.Tensor,
): tf.Tensor {
  const [from, to] = [tf.cast(positions, "float32"), tf.cast(keyPositions, "float32")];
  const distance = distances(from, to);
  const unseen = unseenBy(pattern, distance, from, to);
  const hidden = unseen && tf.expandDims(tf.mul(unseen, HIDDEN), 0);
  if (!bias) return hidden!;
  return hidden ? tf.add(bias(distance), hidden) : bias(distance);
}

/** The distance of each key, at `keyPositions` [S], before each query, at `positions` [T]: [T, S]. */
const distances = (positions: tf.Tensor, keyPositions: tf.Tensor) =>
  tf.sub(tf.reshape(positions, [-1, 1]), tf.reshape(keyPositions, [1, -1]));

/** 1 where the pattern hides a key from a query, else 0: [T, S]; undefined if it hides none. */
function unseenBy(
  { causal, window, global, stride, strideFrom }: Pattern,
  distance: tf.Tensor,
  positions: tf.Tensor,
  keyPositions: tf.Tensor,
): tf.Tensor | undefined {
  const later = causal ? tf.less(distance, 0) : undefined;
  if (window === 0) return later && tf.cast(later, "float32");
  let far: tf.Tensor = tf.greaterEqual(causal ? distance : tf.abs(distance), window);
  const S = keyPositions.size;
  if (global > 0) far = tf.logicalAnd(far, tf.reshape(tf.greaterEqual(keyPositions, global), [1, S]));
  if (global > 0 && !causal) far = tf.logicalAnd(far, tf.reshape(tf.greaterEqual(positions, global), [-1, 1]));
  if (stride > 0) {
    const phase = (x: tf.Tensor) => tf.sub(x, tf.mul(tf.floor(tf.div(x, stride)), stride));
    const other =
      strideFrom === "query"
        ? tf.notEqual(phase(distance), 0)
        : tf.reshape(tf.notEqual(phase(keyPositions), stride - 1), [1, S]);
    far = tf.logicalAnd(far, other);
  }
  return tf.cast(later ? tf.logicalOr(later, far) : far, "float32");
}
