// The Gaussian error linear unit (Hendrycks and Gimpel 2016), in its two forms.

import * as tf from "@tensorflow/tfjs";

import { fused, withGradient } from "./fused.ts";

/** x Phi(x), exactly: Phi(x) = (1 + erf(x / sqrt 2)) / 2. What PyTorch's nn.GELU() and nanoGPT compute. Any shape. */
export function gelu(x: tf.Tensor): tf.Tensor {
  return withGradient([x], (x) => ({
    value: fused("FusedGelu", { x }, {}, () => [tf.mul(x!, phi(x!))])[0]!,
    saved: [x!],
    gradient: (dy, [x]) =>
      fused("FusedGeluGrad", { dy, x }, {}, () => {
        const density = tf.mul(tf.exp(tf.mul(tf.square(x!), -0.5)), 1 / Math.sqrt(2 * Math.PI));
        return [tf.mul(dy, tf.add(phi(x!), tf.mul(x!, density)))];
      }),
  }));
}

/** The normal distribution's cumulative function. */
const phi = (x: tf.Tensor) => tf.mul(tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1), 0.5);

/** The tanh form, which GPT-2 was trained with (section 2 of the paper). Any shape. */
export function geluTanh(x: tf.Tensor): tf.Tensor {
  const cubic = tf.mul(x, tf.add(1, tf.mul(0.044715, tf.square(x))));
  return tf.mul(tf.mul(x, 0.5), tf.add(tf.tanh(tf.mul(Math.sqrt(2 / Math.PI), cubic)), 1));
}
