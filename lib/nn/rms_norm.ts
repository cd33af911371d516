// Root mean square normalisation (Zhang and Sennrich 2019, equation 4).

import { tf } from "../common/tf.ts";

import { asRows, type FusedKernel, fused, withGradient } from "./fused.ts";

/**
 * Each row divided by its root mean square, then scaled: x / sqrt(mean(x^2) + epsilon) * weight. The mean is not removed.
 * @param x [..., C]
 * @param weight [C]
 * @returns [..., C]
 */
export function rmsNorm(x: tf.Tensor, weight: tf.Tensor, epsilon = 1e-5): tf.Tensor {
  const y = withGradient([asRows(x), weight], (x, w) => {
    const [value, inverse] = fused(kernel, [x, w], { epsilon }) as [tf.Tensor, tf.Tensor];
    return { value, saved: [x!, w!, inverse], gradient: rmsNormGrad };
  });
  return tf.reshape(y, x.shape);
}

/** x [N, C], weight [C] -> y [N, C] and 1 / root mean square of each row [N, 1]. */
const kernel: FusedKernel = {
  name: "RMSNorm",
  plain([x, weight], { epsilon }) {
    const inverse = tf.rsqrt(tf.add(tf.mean(tf.square(x!), -1, true), epsilon!));
    return [tf.mul(tf.mul(x!, inverse), weight!), inverse];
  },
  lower(g, [x, weight], { epsilon }) {
    if (!g.standard) {
      const attrs = { axis: -1, epsilon: { float: epsilon! }, stash_type: 1 };
      return g.emitMany(2, "SimplifiedLayerNormalization", [x!, weight!], attrs);
    }
    const mean = g.emit("ReduceMean", [g.emit("Mul", [x!, x!]), g.ints([-1])]);
    const inverse = g.emit("Reciprocal", [g.emit("Sqrt", [g.emit("Add", [mean, g.float(epsilon!)])])]);
    return [g.emit("Mul", [g.emit("Mul", [x!, inverse]), weight!]), inverse];
  },
};

/** dy -> dx, dweight. */
function rmsNormGrad(dy: tf.Tensor, saved: tf.Tensor[]): tf.Tensor[] {
  const [x, weight, inverse] = saved as [tf.Tensor, tf.Tensor, tf.Tensor];
  const normal = tf.mul(x, inverse);
  const g = tf.mul(dy, weight);
  // scaling x doesn't change y: project that part out of g
  const still = tf.mul(normal, tf.mean(tf.mul(g, normal), -1, true));
  return [tf.mul(tf.sub(g, still), inverse), tf.sum(tf.mul(dy, normal), 0)];
}
