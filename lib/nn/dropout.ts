// Dropout (Srivastava et al. 2014), with random numbers from the engine.

import { tf } from "../common/tf.ts";

import type { DropoutRng } from "../engine/runtime/program.ts";
import { type FusedKernel, fused, withGradient } from "./fused.ts";

export type { DropoutRng };

/** Elements are zeroed with probability `rate` and the rest scaled to keep the mean. Does nothing without an rng
 * (evaluation) or at rate 0. Any shape. */
export function dropout(x: tf.Tensor, rate: number, rng: DropoutRng | undefined): tf.Tensor {
  if (!rng || rate === 0) return x;
  const keep = rng.keep(x.shape, rate);
  const scale = 1 / (1 - rate);
  return withGradient([x], (x) => ({
    value: dropMasked(x!, keep, scale),
    saved: [keep],
    gradient: (dy, [keep]) => [dropMasked(dy, keep!, scale)],
  }));
}

/**
 * Stochastic depth (Huang et al. 2016): a layer's contribution x [B, ...] is dropped for whole sequences with probability `rate`, and
 * scaled to keep the mean. Does nothing without an rng or at rate 0.
 */
export function dropLayer(x: tf.Tensor, rate: number, rng: DropoutRng | undefined): tf.Tensor {
  if (!rng || rate === 0) return x;
  const keep = tf.cast(rng.keep([x.shape[0]!, ...x.shape.slice(1).fill(1)], rate), "float32"); // [B, 1, 1]
  return tf.mul(x, tf.mul(keep, 1 / (1 - rate)));
}

/** x times scale where `keep` (bool, of x's shape) is true, else 0. For use inside functions with their own gradient. */
export function dropMasked(x: tf.Tensor, keep: tf.Tensor, scale: number): tf.Tensor {
  return fused(kernel, [x, keep], { scale })[0]!;
}

const kernel: FusedKernel = {
  name: "Dropout",
  elementwise: true,
  plain: ([x, keep], { scale }) => [tf.mul(tf.mul(x!, tf.cast(keep!, "float32")), scale!)],
  lower(g, [x, keep], { scale }) {
    // the mask as 0 or scale: DequantizeLinear reads bytes at the speed of memory, Where takes six times as long
    const bytes = g.emit("Cast", [keep], { to: 2 });
    return g.emit("Mul", [x, g.emit("DequantizeLinear", [bytes, g.float(scale!)])]);
  },
};
