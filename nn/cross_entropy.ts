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
    const [value, logProbs] = fused("FusedCrossEntropy", { logits, labels }, {}, () => {
      const logProbs = tf.logSoftmax(logits!);
      return [tf.neg(tf.div(tf.sum(tf.mul(logProbs, oneHot(labels, V))), N)), logProbs];
    }) as [tf.Tensor, tf.Tensor];
    const gradient = (dy: tf.Tensor, saved: tf.Tensor[]) => {
      const [logProbs, labels] = saved as [tf.Tensor, tf.Tensor];
      return fused("FusedCrossEntropyGrad", { logProbs, labels, dy }, {}, () => [
        tf.mul(tf.sub(tf.exp(logProbs), oneHot(labels, V)), tf.div(dy, N)),
      ]);
    };
    return { value, saved: [logProbs, labels], gradient };
  });
  return loss as tf.Scalar;
}

const oneHot = (labels: tf.Tensor, V: number) => tf.oneHot(labels as tf.Tensor1D, V);
