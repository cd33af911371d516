// Dropout of attention weights. Whether a weight is kept follows from a random number of its query and one of its key, so that it can be
// recomputed for any block: no mask of all pairs is generated or kept for the backward pass, and the choice of blocks doesn't change
// the result.

import { tf } from "../common/tf.ts";

import { type DropoutRng, dropMasked } from "./dropout.ts";
import { withGradient } from "./fused.ts";
import { controlDependency } from "./in_order.ts";

/**
 * Weights [..., T, S] are zeroed with probability `rate`. That of query i for key j is kept if rows[i] * columns[j], modulo 2^32 and
 * as a signed number, is at least rate * 2^32 - 2^31: the multiplicative hash of Dietzfelbinger et al. 1997 ("A reliable randomized
 * algorithm for the closest-pair problem"). The numbers of rows are odd, so that for any one of them a column's uniform number gives a
 * uniform product: within a row all choices are independent, and have the exact rate to 2^-32.
 */
export interface WeightDropout {
  readonly rate: number;
  readonly rows: tf.Tensor; // int32 [..., T, 1]; of 21 bits: a product is exact in float64, in which tfjs' CPU backend takes it
  readonly columns: tf.Tensor; // int32 [..., S, 1]
}

const ROW_BITS = 20;

/** A new dropout choice for the weights of queries [..., T, D] for keys [..., S, D]; undefined without an rng (evaluation) or at
 * rate 0. */
export function chooseWeights(
  rate: number,
  rng: DropoutRng | undefined,
  query: { readonly shape: readonly number[] },
  key: { readonly shape: readonly number[] },
): WeightDropout | undefined {
  if (!rng || rate === 0) return undefined;
  const lead = query.shape.slice(0, -2);
  const halves = rng.integers([...lead, query.shape.at(-2)!, 1], ROW_BITS);
  const rows = tf.add(tf.mul(halves, tf.scalar(2, "int32")), tf.scalar(1, "int32"));
  return { rate, rows, columns: rng.integers([...lead, key.shape.at(-2)!, 1], 32) };
}

/** The choice for the weights of the queries from `from` to `end` - 1 for the keys in `ranges`. */
export function choiceOf(
  { rate, rows, columns }: WeightDropout,
  { from, end, ranges }: { from: number; end: number; ranges: readonly (readonly [from: number, end: number])[] },
): WeightDropout {
  const parts = ranges.map(([a, b]) => part(columns, a, b));
  return { rate, rows: part(rows, from, end), columns: parts.length === 1 ? parts[0]! : tf.concat(parts, -2) };
}

/** Rows of x [..., T, 1]. */
function part(x: tf.Tensor, from: number, end: number): tf.Tensor {
  const lead = x.shape.slice(0, -2);
  if (end - from === x.shape.at(-2)) return x;
  return tf.slice(x, [...lead.map(() => 0), from, 0], [...lead, end - from, 1]);
}

/** The choice, computed only after `others` are. */
export function choiceAfter(choice: WeightDropout, others: readonly tf.Tensor[]): WeightDropout {
  if (others.length === 0) return choice;
  const exact = tf.cast(choice.rows, "float32"); // of 21 bits
  return { ...choice, rows: tf.cast(controlDependency(exact, others), "int32") };
}

/** A choice as saved tensors for a hand-written gradient, and back. */
export const tensorsOf = (choice: WeightDropout | undefined) => (choice ? [choice.rows, choice.columns] : []);
export const choiceFrom = (choice: WeightDropout | undefined, [rows, columns]: tf.Tensor[]) =>
  choice && { ...choice, rows: rows!, columns: columns! };

/** Dropout of attention weights [..., T, S]. Does nothing without an rng or at rate 0. It uses the numbers of
 * `chooseWeights`. */
export function attentionDropout(weights: tf.Tensor, rate: number, rng: DropoutRng | undefined): tf.Tensor {
  const keys = { shape: [...weights.shape.slice(0, -2), weights.shape.at(-1)!, 1] };
  return dropWeights(weights, chooseWeights(rate, rng, weights, keys));
}

/** Attention weights [..., T, S], each zeroed or scaled to keep the mean. With its own gradient. */
export function dropWeights(weights: tf.Tensor, choice: WeightDropout | undefined): tf.Tensor {
  if (!choice) return weights;
  return withGradient([weights], (weights) => ({
    value: dropper(choice)(weights!),
    saved: tensorsOf(choice),
    gradient: (dy, saved) => [dropper(choiceFrom(choice, saved))(dy)],
  }));
}

/** A function that zeroes or scales weights, or from dy makes their gradient. For use inside functions with their own gradient. */
export function dropper(choice: WeightDropout | undefined): (x: tf.Tensor) => tf.Tensor {
  if (!choice) return (x) => x;
  const { rate, rows, columns } = choice;
  const least = Math.round(rate * 2 ** 32) - 2 ** 31;
  const across = tf.reshape(columns, [...columns.shape.slice(0, -2), 1, -1]);
  const keep = tf.greaterEqual(tf.mul(rows, across), tf.scalar(least, "int32"));
  return (x) => dropMasked(x, keep, 1 / (1 - rate));
}
