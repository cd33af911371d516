// AdamW (Loshchilov and Hutter 2019, algorithm 2): the average of the gradient over the root of the average of its square.

import { tf } from "../../common/tf.ts";

import type { Optimizer } from "./optimizer.ts";

export interface AdamWOptions {
  beta1: number; // decay of the average of the gradient
  beta2: number; // decay of the average of its square
  epsilon?: number; // added to the root; 1e-8 if not given
}

/** rate and correction hold the corrections of both averages, which start at 0. */
export function adamw({
  beta1,
  beta2,
  epsilon = 1e-8,
}: AdamWOptions): Optimizer<"exp_avg" | "exp_avg_sq", "rate" | "correction"> {
  return {
    state: ({ shape }) => ({ exp_avg: shape, exp_avg_sq: shape }),
    rates: (step, learningRate) => ({
      rate: learningRate / (1 - beta1 ** step),
      correction: 1 / Math.sqrt(1 - beta2 ** step),
    }),
    elementwise: () => true,
    update(w, g, state, { rate, correction, shrink }) {
      const exp_avg = tf.add(tf.mul(state.exp_avg, beta1), tf.mul(g, 1 - beta1));
      const exp_avg_sq = tf.add(tf.mul(state.exp_avg_sq, beta2), tf.mul(tf.square(g), 1 - beta2));
      const root = tf.add(tf.mul(tf.sqrt(exp_avg_sq), correction), epsilon);
      return { w: tf.sub(tf.mul(w, shrink), tf.div(tf.mul(exp_avg, rate), root)), exp_avg, exp_avg_sq };
    },
  };
}
