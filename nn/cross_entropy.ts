// The loss of a classifier over a vocabulary.

import * as tf from "@tensorflow/tfjs";

import { fused, withGradient } from "./fused.ts";

/**
 * Mean over all rows of -log softmax(logits)[label], in nats.
 * @param logits [N, V]
 * @param labels [N], int32 in [0, V)
 */
export function crossEntropy(logits: tf.Tensor, labels: tf.Tensor): tf.Scalar {
  const [N, V] = logits.shape as [number, number];
  const loss = withGradient([logits], (logits) => {
    const [value, exponentials, sums] = fused("FusedCrossEntropy", { logits, labels }, {}, () => {
      const shifted = tf.sub(logits!, tf.max(logits!, -1, true));
      const exponentials = tf.exp(shifted);
      const sums = tf.sum(exponentials, -1, true);
      const right = tf.sum(tf.mul(shifted, oneHot(labels, V)), -1, true);
      return [tf.mean(tf.sub(tf.log(sums), right)), exponentials, sums];
    }) as [tf.Tensor, tf.Tensor, tf.Tensor];
    const gradient = (dy: tf.Tensor, saved: tf.Tensor[]) => {
      const [exponentials, sums, labels] = saved as [tf.Tensor, tf.Tensor, tf.Tensor];
      return fused("FusedCrossEntropyGrad", { exponentials, sums, labels, dy }, {}, () => [
        tf.mul(tf.sub(tf.div(exponentials, sums), oneHot(labels, V)), tf.div(dy, N)),
      ]);
    };
    return { value, saved: [exponentials, sums, labels], gradient };
  });
  return loss as tf.Scalar;
}

const oneHot = (labels: tf.Tensor, V: number) => tf.oneHot(labels as tf.Tensor1D, V);
