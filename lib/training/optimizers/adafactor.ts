// Adafactor (Shazeer and Stern 2018), as in PyTorch: of a matrix' squared gradients only the averages over rows and columns are kept,
// so the state is tiny. Steps are relative to the size of the weights.
// Left out, as in PyTorch: the paper's optional first moment.

import { tf } from "../../common/tf.ts";

import type { Optimizer } from "./optimizer.ts";

const BETA2_DECAY = -0.8; // at step t the averages take t^-0.8 of the new value (algorithm 6)
const EPSILON1 = 2 ** -23; // smallest root of an average: float32's epsilon
const EPSILON2 = 1e-3; // smallest size of weights that a step is relative to, so that weights of 0 move, too
const LARGEST = 1; // root mean square of an update, before the learning rate (d, section 6)

/** A matrix [..., R, C], or a stack of them, has row_var [..., R, 1] and col_var [..., 1, C]; a vector has variance. */
export function adafactor(): Optimizer<"row_var" | "col_var" | "variance", "fresh" | "relative"> {
  return {
    state({ shape }) {
      if (shape.length < 2) return { variance: shape };
      const [rows, columns] = shape.slice(-2) as [number, number];
      const outer = shape.slice(0, -2);
      return { row_var: [...outer, rows, 1], col_var: [...outer, 1, columns] };
    },
    rates: (step, learningRate) => ({
      fresh: step ** BETA2_DECAY,
      relative: Math.min(learningRate, 1 / Math.sqrt(step)), // algorithm 6: rho
    }),
    elementwise: () => false,
    update(w, g, state, { fresh, relative, shrink }, { shape }) {
      const squares = tf.square(g);
      const follow = (average: tf.Tensor, value: tf.Tensor) => tf.add(average, tf.mul(fresh, tf.sub(value, average)));
      const next: Partial<typeof state> = {};
      let root: tf.Tensor; // 1 / sqrt(v)
      if (shape.length < 2) {
        next.variance = follow(state.variance, squares);
        root = tf.rsqrt(next.variance);
      } else {
        // v_ij = r_i c_j / mean(r) (algorithm 4)
        next.row_var = follow(state.row_var, tf.mean(squares, -1, true));
        next.col_var = follow(state.col_var, tf.mean(squares, -2, true));
        const mean = tf.maximum(tf.mean(next.row_var, -2, true), EPSILON1);
        root = tf.mul(tf.sqrt(tf.div(mean, next.row_var)), tf.rsqrt(next.col_var));
      }
      const update = tf.mul(g, tf.minimum(root, 1 / EPSILON1));
      const rms = (x: tf.Tensor) => tf.sqrt(tf.mean(tf.square(x)));
      const size = tf.mul(tf.maximum(rms(w), EPSILON2), relative);
      const move = tf.div(size, tf.maximum(tf.div(rms(update), LARGEST), 1));
      return { w: tf.sub(tf.mul(w, shrink), tf.mul(update, move)), ...next };
    },
  };
}
