// Layer normalisation (Ba, Kiros and Hinton 2016, equations 3 and 4).

import { tf } from "../common/tf.ts";

import { type Kernel, numbers } from "./fast.ts";
import { asRows, type FusedKernel, fused, withGradient } from "./fused.ts";

/**
 * Each row to mean 0 and variance 1, then scaled and shifted: (x - mean) / sqrt(variance + epsilon) * weight + bias.
 * @param x [..., C]
 * @param weight [C]
 * @param bias [C], or none
 * @returns [..., C]
 */
export function layerNorm(x: tf.Tensor, weight: tf.Tensor, bias?: tf.Tensor, epsilon = 1e-5): tf.Tensor {
  const inputs = bias ? [asRows(x), weight, bias] : [asRows(x), weight];
  const y = withGradient(inputs, (x, w, b) => {
    const [value, mean, inverse] = fused(kernel, [x, w, b], { epsilon }) as [tf.Tensor, tf.Tensor, tf.Tensor];
    return {
      value,
      saved: [x!, w!, mean, inverse],
      gradient: b ? layerNormGrad : (...args) => layerNormGrad(...args).slice(0, 2),
    };
  });
  return tf.reshape(y, x.shape);
}

/** For model.ts' formula. The rows differ greatly in size, so that epsilon matters in small ones. */
export const layerNormKernel: Kernel<typeof layerNorm> = {
  name: "layer norm",
  run: layerNorm,
  samples: () => {
    const x = tf.concat([3, 0.3, 0.003].map((size, seed) => numbers([1, 2, 6], seed, size)));
    const [weight, bias] = [numbers([6], 3, 2), numbers([6], 4)];
    return [
      [tf.add(x, 0.01), weight, bias, 1e-5],
      [x, weight, undefined, 1e-3],
    ];
  },
};

/** x [N, C], weight [C], bias [C] or none -> y [N, C], each row's mean [N, 1] and 1 / deviation [N, 1]. */
const kernel: FusedKernel = {
  name: "LayerNorm",
  plain([x, weight, bias], { epsilon }) {
    const { mean, variance } = tf.moments(x!, -1, true);
    const inverse = tf.rsqrt(tf.add(variance, epsilon!));
    const scaled = tf.mul(tf.mul(tf.sub(x!, mean), inverse), weight!);
    return [bias ? tf.add(scaled, bias) : scaled, mean, inverse];
  },
  lower: (g, inputs, { epsilon }) =>
    g.emitMany(3, "LayerNormalization", inputs, { axis: -1, epsilon: { float: epsilon! } }),
};

/** dy -> dx, dweight, dbias. */
function layerNormGrad(dy: tf.Tensor, saved: tf.Tensor[]): tf.Tensor[] {
  const [x, weight, mean, inverse] = saved as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor];
  const normal = tf.mul(tf.sub(x, mean), inverse);
  const g = tf.mul(dy, weight);
  // changing x along the row's mean or its normalised values doesn't change y: project these parts out of g
  const still = tf.add(tf.mean(g, -1, true), tf.mul(normal, tf.mean(tf.mul(g, normal), -1, true)));
  return [tf.mul(tf.sub(g, still), inverse), tf.sum(tf.mul(dy, normal), 0), tf.sum(dy, 0)];
}
