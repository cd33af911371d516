// SGD with momentum (Polyak 1964), in PyTorch's form: the momentum is a sum, so a constant gradient moves a weight by
// rate / (1 - momentum) times it at every step. Weight decay is decoupled from the gradient, as in AdamW (Loshchilov and Hutter 2019, algorithm 1); PyTorch's SGD adds it to the gradient instead. Left out: Nesterov.

import { tf } from "../../common/tf.ts";

import type { Optimizer } from "./optimizer.ts";

export function sgd({ momentum }: { momentum: number }): Optimizer<"momentum_buffer", "rate"> {
  return {
    state: ({ shape }) => ({ momentum_buffer: shape }),
    rates: (_, learningRate) => ({ rate: learningRate }),
    elementwise: () => true,
    update(w, g, state, { rate, shrink }) {
      const momentum_buffer = tf.add(tf.mul(state.momentum_buffer, momentum), g);
      return { w: tf.sub(tf.mul(w, shrink), tf.mul(momentum_buffer, rate)), momentum_buffer };
    },
  };
}
