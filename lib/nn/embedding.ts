// Embedding lookup; and gathering of positions in sequences.

import { tf } from "../common/tf.ts";

import type { OpWriter } from "../engine/graph.ts";
import { type FusedKernel, fused, withGradient } from "./fused.ts";

/** Up to this many rows the gradient is a matrix product with one-hot vectors, several times faster. */
const ONE_HOT_ROWS = 512;

/**
 * @param table [V, C]
 * @param ids [...], int32 in [0, V)
 * @returns [..., C]
 */
export function embedding(table: tf.Tensor, ids: tf.Tensor): tf.Tensor {
  const [V, C] = table.shape as [number, number];
  const flat = tf.reshape(ids, [ids.size]) as tf.Tensor1D;
  const rows = withGradient([table], (table) => ({
    value: tf.gather(table!, flat),
    saved: [flat],
    gradient: (dy, [ids]) => fused(V > ONE_HOT_ROWS ? scatterRows : multiplyRows, [dy, ids], { V }),
  }));
  return tf.reshape(rows, [...ids.shape, C]);
}

/** x [B, T, C] and some positions of each sequence, int32 [B, M] -> x at these positions, [B, M, C] */
export function gatherPositions(x: tf.Tensor, positions: tf.Tensor): tf.Tensor {
  const [B, T, C] = x.shape as [number, number, number];
  const starts = tf.range(0, B * T, T, "int32"); // of the sequences among all rows
  return embedding(tf.reshape(x, [B * T, C]), tf.add(positions, tf.reshape(starts, [B, 1])));
}

/** dy [N, C], ids [N] -> [V, C]: the sum of the rows of dy for each id. */
const sumRows = {
  plain: ([dy, ids]: tf.Tensor[], { V }: Readonly<Record<string, number>>) => [
    tf.unsortedSegmentSum(dy!, ids as tf.Tensor1D, V!),
  ],
};

/** `sumRows` for a small table. */
const multiplyRows: FusedKernel = {
  name: "EmbeddingGrad",
  ...sumRows,
  exact: true,
  lower(g, [dy, ids], { V }) {
    const values = g.constant(Float32Array.of(0, 1), [2], "float32");
    const classes = g.emit("OneHot", [g.emit("Cast", [ids], { to: 7 }), g.int(V!), values], { axis: -1 }); // 7: int64
    return g.emit("Gemm", [classes, dy], { transA: 1 });
  },
};

/** `sumRows` for a large table; added in place to another gradient of the table (a tied output layer's). */
const scatterRows: FusedKernel = {
  name: "EmbeddingGrad",
  ...sumRows,
  lower(g, [dy, ids], { V }, { inputs: [shape] }) {
    const [N, C] = shape as [number, number];
    return scatter(g, g.emit("ConstantOfShape", [g.ints([V!, C])]), dy, ids, N, C);
  },
  lowerInto(g, into, [dy, ids], _, { inputs: [shape] }) {
    const [N, C] = shape as [number, number];
    return scatter(g, into, dy, ids, N, C);
  },
};

function scatter(g: OpWriter, into: string, dy: string, ids: string, N: number, C: number): string {
  const index = g.emit("Expand", [g.emit("Reshape", [ids, g.ints([N, 1])]), g.ints([N, C])]);
  return g.emit("ScatterElements", [into, index, dy], { axis: 0, reduction: "add" });
}
