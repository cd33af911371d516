// Lion (Chen et al. 2023, "Symbolic discovery of optimization algorithms", algorithm 2): every weight moves by the
// learning rate, up or down. One average per weight: half of AdamW's memory.

import { tf } from "../../common/tf.ts";

import type { Optimizer } from "./optimizer.ts";

export interface LionOptions {
  beta1: number; // how much of the average goes into the sign
  beta2: number; // how much of it is kept
}

export function lion({ beta1, beta2 }: LionOptions): Optimizer<"exp_avg", "rate"> {
  return {
    state: ({ shape }) => ({ exp_avg: shape }),
    rates: (_, learningRate) => ({ rate: learningRate }),
    elementwise: () => true,
    update(w, g, state, { rate, shrink }) {
      const ahead = tf.sub(state.exp_avg, g); // the only use of the old average
      const direction = tf.sign(tf.add(g, tf.mul(ahead, beta1))); // of beta1 m + (1 - beta1) g
      const exp_avg = tf.add(g, tf.mul(ahead, beta2));
      return { w: tf.sub(tf.mul(w, shrink), tf.mul(direction, rate)), exp_avg };
    },
  };
}
