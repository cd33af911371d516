// Causal attention (Vaswani et al. 2017, equation 1), computed block by block of queries, with its own gradient.

import { tf } from "../common/tf.ts";

import type { DropoutRng } from "./dropout.ts";
import { withGradient } from "./fused.ts";
import { controlDependency, RowSums } from "./in_order.ts";
import { HIDDEN } from "./mask.ts";
import { BLOCK, fewWidths, KEEP_WEIGHTS } from "./query_blocks.ts";
import {
  choiceAfter,
  choiceFrom,
  choiceOf,
  chooseWeights,
  dropper,
  tensorsOf,
  type WeightDropout,
} from "./weight_dropout.ts";

/**
 * softmax(query key^T / sqrt(D), causally masked) value, exactly.
 * @param query [N, T, D], as key and value; N counts batch and heads
 * @param rate dropout on the attention weights, if there is an rng
 * @returns [N, T, D]
 */
export function causalAttention(
  query: tf.Tensor,
  key: tf.Tensor,
  value: tf.Tensor,
  rate = 0,
  rng: DropoutRng | undefined = undefined,
  block = BLOCK,
  keepWeights = query.shape[1]! <= KEEP_WEIGHTS,
): tf.Tensor {
  const [, T, D] = query.shape as [number, number, number];
  const count = Math.ceil(T / block);
  const ends = Array.from({ length: count }, (_, i) => Math.min(T, (i + 1) * block));
  const widths = keepWeights ? ends : fewWidths(ends, block);
  const choice = chooseWeights(rate, rng, query, key);

  return withGradient([query, key, value], (query, key, value) => {
    const scaled = tf.mul(query!, 1 / Math.sqrt(D));
    const queries = cut(scaled, block);
    const weights = widths.map((width, i) => () => weightsOf(queries[i]!, upTo(key!, width), i * block));
    const kept = keepWeights ? weights.map((make) => make()) : [];
    const seen = widths.map((width, i) => {
      const weight = kept[i] ?? weights[i]!();
      const own = choice && choiceOf(choice, { from: i * block, end: ends[i]!, ranges: [[0, width]] });
      return tf.matMul(dropper(own)(weight), upTo(value!, width)); // [N, block, D]
    });
    const result = tf.concat(seen, 1);
    const choices = tensorsOf(choice);
    return {
      value: result,
      saved: [...choices, scaled, key!, value!, result, ...kept],
      gradient(dy, saved) {
        const again = choiceFrom(choice, saved);
        return attentionGrad(dy, saved.slice(choices.length), widths, block, again);
      },
    };
  });
}

/** The attention weights softmax(q k^T + mask), [N, block, width], for the block that starts at `from`. */
function weightsOf(queries: tf.Tensor, keys: tf.Tensor, from: number): tf.Tensor {
  const mask = causalMask(from, queries.shape[1]!, keys.shape[1]!); // recorded first: the runtime computes later nodes earlier (in_order.ts)
  return tf.softmax(tf.add(tf.matMul(queries, keys, false, true), mask));
}

/**
 * dy -> dquery, dkey, dvalue. With the attention weights P of a block and its result o, softmax's gradient needs rowsum(P dP), which
 * is rowsum(o dy) (Dao et al. 2022, appendix B.2): a sum over D numbers per row, not over all keys. Dropout does not change
 * that.
 */
function attentionGrad(
  dy: tf.Tensor,
  saved: tf.Tensor[],
  widths: number[],
  block: number,
  choice: WeightDropout | undefined,
): tf.Tensor[] {
  const [scaled, key, value, result, ...kept] = saved as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, ...tf.Tensor[]];
  const D = key.shape[2]!;
  const rowSums = cut(tf.sum(tf.mul(dy, result), -1, true), block);
  const [dys, queries] = [cut(dy, block), cut(scaled, block)];
  const dQueries: tf.Tensor[] = [];
  const [dKeys, dValues] = [new RowSums(1), new RowSums(1)];
  let done: tf.Tensor[] = [];
  for (const [i, width] of [...widths.entries()].reverse()) {
    const [keys, values] = [upTo(key, width), upTo(value, width)];
    const [query, dBlock] = [controlDependency(queries[i]!, done), controlDependency(dys[i]!, done)];
    const weight = kept[i] ?? weightsOf(query, keys, i * block);
    const from = i * block;
    const own = choice && choiceOf(choice, { from, end: from + query.shape[1]!, ranges: [[0, width]] });
    const drop = dropper(own && choiceAfter(own, done));
    dValues.add(tf.matMul(drop(weight), dBlock, true), 0, width);
    const dWeight = drop(tf.matMul(dBlock, values, false, true));
    const dScores = tf.mul(weight, tf.sub(dWeight, rowSums[i]!));
    dQueries[i] = tf.matMul(dScores, keys);
    dKeys.add(tf.matMul(dScores, query, true), 0, width);
    if (kept.length === 0) done = [dQueries[i], ...dKeys.pending, ...dValues.pending]; // else it saves little memory
  }
  const dQuery = tf.mul(tf.concat(dQueries, 1), 1 / Math.sqrt(D));
  return [dQuery, dKeys.total(key.shape[1]!), dValues.total(key.shape[1]!)];
}

/** Blocks of rows of x [N, T, ...]. */
function cut(x: tf.Tensor, block: number): tf.Tensor[] {
  const T = x.shape[1]!;
  if (T <= block) return [x];
  const sizes = Array.from({ length: Math.ceil(T / block) }, (_, i) => Math.min(block, T - i * block));
  return tf.split(x, sizes, 1);
}

/** The first rows of x [N, T, D]. */
function upTo(x: tf.Tensor, end: number): tf.Tensor {
  return end === x.shape[1] ? x : tf.slice(x, [0, 0, 0], [-1, end, -1]);
}

/** 0 where the query at from + i may see key j, else a number whose exponential is 0: [rows, width]. If it is large the
 * runtime computes it in each run: as a constant of every block it would be quadratic in the length. */
function causalMask(from: number, rows: number, width: number): tf.Tensor {
  const beyond = width - from - rows;
  const behind =
    beyond > 0
      ? tf.pad(
          future(rows),
          [
            [0, 0],
            [0, beyond],
          ],
          HIDDEN,
        )
      : future(rows);
  return from > 0
    ? tf.pad(behind, [
        [0, 0],
        [from, 0],
      ])
    : behind;
}

const squares = new Map<number, Float32Array>(); // by size: every block and layer uses the same one

/** The same for queries and keys at the same positions: [rows, rows]. */
function future(rows: number): tf.Tensor {
  const square = squares.get(rows) ?? new Float32Array(rows * rows);
  if (!squares.has(rows)) {
    for (let i = 0; i < rows; i++) square.fill(HIDDEN, i * rows + i + 1, (i + 1) * rows);
    squares.set(rows, square);
  }
  return tf.tensor(square, [rows, rows]);
}
