// The linear layer.

import { tf } from "../common/tf.ts";

import { asRows } from "./fused.ts";

/**
 * y = x W + b
 * @param x [..., C]
 * @param weight [C, D], or [D, C] with `transposeWeight` (an embedding table as the output layer)
 * @param bias [D]
 * @returns [..., D]
 */
export function linear(x: tf.Tensor, weight: tf.Tensor, bias?: tf.Tensor, transposeWeight = false): tf.Tensor {
  const product = tf.matMul(asRows(x), weight as tf.Tensor2D, false, transposeWeight);
  return tf.reshape(bias ? tf.add(product, bias) : product, [...x.shape.slice(0, -1), product.shape[1]!]);
}
