// Grouped matrix products, each group of rows with its own matrix, for a mixture of experts. The group sizes are data, so one graph
// serves them all; a row costs one product, regardless of the number of matrices (Gale et al. 2022, "MegaBlocks", with one product
// per group instead of a block-sparse one).

import { tf } from "../common/tf.ts";

import { type FusedKernel, fused, withGradient } from "./fused.ts";

/**
 * Row m of the result is x[m] weights[e], where e is the group of row m.
 * @param x [M, A], the rows of group 0 first, then those of group 1, and so on
 * @param weights [E, A, B]
 * @param counts float32 [E]: rows of each group, M in all; may be 0
 * @returns [M, B]
 */
export function groupedMatMul(x: tf.Tensor, weights: tf.Tensor, counts: tf.Tensor): tf.Tensor {
  return withGradient([x, weights], (x, weights) => ({
    value: fused(product, [x, weights, counts], { transpose: 0 })[0]!,
    saved: [x!, weights!, counts],
    gradient: (dy, [x, weights, counts]) => [
      fused(product, [dy, weights, counts], { transpose: 1 })[0]!,
      fused(weightGradient, [x, dy, counts])[0]!,
    ],
  }));
}

const INT64 = 7;

/** x [M, A], weights [E, A, B] (or [E, B, A] with `transpose`), counts [E] -> [M, B] */
const product: FusedKernel = {
  name: "GroupedMatMul",
  plain([x, weights, counts], { transpose }) {
    const E = weights!.shape[0]!;
    const all = tf.matMul(tf.tile(tf.expandDims(x!, 0), [E, 1, 1]), weights!, false, transpose === 1); // [E, M, B]
    return [tf.sum(tf.mul(all, members(x!, counts!)), 0)];
  },
  lower(g, [x, weights, counts], { transpose }, { inputs }) {
    const E = inputs[1]![0]!;
    const groups = g.emitMany(E, "Split", [x, g.emit("Cast", [counts], { to: INT64 })], { axis: 0 });
    const products = groups.map((rows, e) => {
      const matrix = g.emit("Squeeze", [g.emit("Slice", [weights, g.ints([e]), g.ints([e + 1])]), g.ints([0])]);
      return g.emit("Gemm", [rows, matrix], { transB: transpose! });
    });
    return g.emit("Concat", products, { axis: 0 });
  },
};

/** x [M, A], dy [M, B], counts [E] -> dweights [E, A, B]: of each group x^T dy, 0 where it has no rows */
const weightGradient: FusedKernel = {
  name: "GroupedMatMulGrad",
  plain([x, dy, counts]) {
    const E = counts!.shape[0]!;
    const own = tf.mul(tf.expandDims(dy!, 0), members(x!, counts!)); // [E, M, B]
    return [tf.matMul(tf.tile(tf.expandDims(x!, 0), [E, 1, 1]), own, true)];
  },
  lower(g, [x, dy, counts], _, { inputs }) {
    const E = inputs[2]![0]!;
    const sizes = g.emit("Cast", [counts!], { to: INT64 });
    const [xs, dys] = [x, dy].map((rows) => g.emitMany(E, "Split", [rows, sizes], { axis: 0 }));
    const products = xs!.map((rows, e) => {
      return g.emit("Unsqueeze", [g.emit("Gemm", [rows, dys![e]!], { transA: 1 }), g.ints([0])]);
    });
    return g.emit("Concat", products, { axis: 0 });
  },
};

/** [E, M, 1]: 1 where row m of x is in group e, else 0. */
function members(x: tf.Tensor, counts: tf.Tensor): tf.Tensor {
  const row = tf.cumsum(tf.ones([1, x.shape[0]!, 1]), 1, true);
  const end = tf.reshape(tf.cumsum(counts), [-1, 1, 1]);
  const start = tf.sub(end, tf.reshape(counts, [-1, 1, 1]));
  return tf.cast(tf.logicalAnd(tf.greaterEqual(row, start), tf.less(row, end)), "float32");
}
