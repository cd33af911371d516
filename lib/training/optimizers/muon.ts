// Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): the update of each hidden layer's matrix is its momentum, made nearly
// orthogonal. Everything else (embeddings, the output layer, norms, biases) is AdamW's.
//
// One learning rate serves both: the update is scaled to the typical size of AdamW's, a root mean square of 0.2 (Liu
// et al. 2025, "Muon is scalable for LLM training", equation 4; PyTorch's adjust_lr_fn="match_rms_adamw"). Unlike the
// factor published first, max(1, rows / columns)^0.5, it doesn't depend on which of the two is the input.

import { tf } from "../../common/tf.ts";

import { type AdamWOptions, adamw } from "./adamw.ts";
import type { Optimizer, Weight } from "./optimizer.ts";

export interface MuonOptions extends AdamWOptions {
  momentum: number;
}

const RMS = 0.2;
const STEPS = 5;
const [A, B, C] = [3.4445, -4.775, 2.0315]; // Jordan's: the steepest at 0 that bring every singular value to about 1
const EPSILON = 1e-7; // the norm of a matrix that counts as 0

type State = "momentum_buffer" | "exp_avg" | "exp_avg_sq";

export function muon({ momentum, ...options }: MuonOptions): Optimizer<State, "learningRate" | "rate" | "correction"> {
  const rest = adamw(options);
  return {
    state: (weight) => (isHiddenMatrix(weight) ? { momentum_buffer: weight.shape } : rest.state(weight)),
    rates: (step, learningRate) => ({ learningRate, ...rest.rates(step, learningRate) }),
    elementwise: (weight) => !isHiddenMatrix(weight),
    update(w, g, state, rates, weight) {
      if (!isHiddenMatrix(weight)) return rest.update(w, g, state, rates, weight);
      const fresh = tf.mul(g, 1 - momentum);
      const momentum_buffer = tf.add(tf.mul(state.momentum_buffer, momentum), fresh);
      const ahead = tf.add(fresh, tf.mul(momentum_buffer, momentum)); // Nesterov 1983, as in PyTorch
      const update = orthogonalize(ahead, weight.splits);
      return { w: tf.sub(tf.mul(w, rates.shrink), tf.mul(update, rates.learningRate)), momentum_buffer };
    },
  };
}

/** Is it the matrix of a layer in a block, or a stack of them (experts)? */
export const isHiddenMatrix = ({ role, shape }: Pick<Weight, "role" | "shape">) =>
  role === "hidden" && shape.length >= 2;

/**
 * Each matrix nearly orthogonal and scaled. Packed matrices are split: c_attn has three, for query, key and value, and Jordan found
 * Muon better on the three than on the whole.
 * @param x [..., rows, columns] @param splits widths of the parts; they sum to the columns
 */
export function orthogonalize(x: tf.Tensor, splits: readonly number[]): tf.Tensor {
  const rows = x.shape.at(-2)!;
  const parts = splits.length === 1 ? [x] : tf.split(x, [...splits], -1);
  const done = parts.map((part, i) => tf.mul(newtonSchulz(part), RMS * Math.sqrt(Math.max(rows, splits[i]!))));
  return done.length === 1 ? done[0]! : tf.concat(done, -1);
}

/**
 * The orthogonal matrix next to x, roughly: x = U S V^T becomes U S' V^T, with singular values S' about 1 (0.7 to 1.2). Newton-Schulz: starting
 * from x / |x|, five times x <- a x + (b G + c G^2) x with the smaller Gram matrix G = x x^T, or from the right.
 * @param x [..., rows, columns], matrices
 */
export function newtonSchulz(x: tf.Tensor): tf.Tensor {
  const [rows, columns] = x.shape.slice(-2) as [number, number];
  const length = tf.sqrt(tf.sum(tf.square(x), [-2, -1], true));
  let result = tf.div(x, tf.maximum(length, EPSILON));
  for (let step = 0; step < STEPS; step++) {
    const tall = rows > columns;
    const gram = tf.matMul(result, result, tall, !tall);
    const polynomial = tf.add(tf.mul(gram, B), tf.mul(tf.matMul(gram, gram), C));
    const change = tall ? tf.matMul(result, polynomial) : tf.matMul(polynomial, result);
    result = tf.add(tf.mul(result, A), change);
  }
  return result;
}
