// The loss of a classifier over a vocabulary.

import * as tf from "@tensorflow/tfjs";

import { type FusedKernel, fused, withGradient } from "./fused.ts";

/**
 * Mean over all rows of -log softmax(logits)[label], in nats.
 * @param logits [N, V]
 * @param labels [N], int32 in [0, V)
 */
export function crossEntropy(logits: tf.Tensor, labels: tf.Tensor): tf.Scalar {
  const loss = withGradient([logits], (logits) => {
    const [value, exponentials, sums] = fused(kernel, [logits, labels]) as [tf.Tensor, tf.Tensor, tf.Tensor];
    return { value, saved: [exponentials, sums, labels], gradient: (dy, saved) => fused(gradient, [...saved, dy]) };
  });
  return loss as tf.Scalar;
}

// Sub, Exp, and in the gradient Mul and ScatterElements, each work in place: over a large vocabulary the logits are the
// largest tensor of a step, and this way there is one of them.

/** logits [N, V], labels [N] -> the loss [], exp(logits - max) [N, V] and its row sums [N, 1]. */
const kernel: FusedKernel = {
  name: "CrossEntropy",
  plain([logits, labels]) {
    const shifted = tf.sub(logits!, tf.max(logits!, -1, true));
    const exponentials = tf.exp(shifted);
    const sums = tf.sum(exponentials, -1, true);
    const right = tf.sum(tf.mul(shifted, oneHot(labels!, logits!.shape[1]!)), -1, true);
    return [tf.mean(tf.sub(tf.log(sums), right)), exponentials, sums];
  },
  lower(g, [logits, labels], _, { inputs: [logitsShape] }) {
    const shifted = g.emit("Sub", [logits, g.emit("ReduceMax", [logits, g.ints([-1])], { keepdims: 1 })]);
    const exponentials = g.emit("Exp", [shifted]);
    const sums = g.emit("ReduceSum", [exponentials, g.ints([-1])], { keepdims: 1 });
    const logs = g.emit("Log", [sums]);
    // written down last, the runtime picks these numbers first (engine/onnx.ts), before Exp overwrites them
    const column = g.emit("Reshape", [labels, g.ints([logitsShape![0]!, 1])]);
    const right = g.emit("GatherElements", [shifted, column], { axis: 1 });
    return [g.emit("ReduceMean", [g.emit("Sub", [logs, right])], { keepdims: 0 }), exponentials, sums];
  },
};

/** exponentials [N, V], sums [N, 1], labels [N], dy [] -> dlogits [N, V]: softmax minus one-hot, over N. */
const gradient: FusedKernel = {
  name: "CrossEntropyGrad",
  plain([exponentials, sums, labels, dy]) {
    const [N, V] = exponentials!.shape as [number, number];
    return [tf.mul(tf.sub(tf.div(exponentials!, sums!), oneHot(labels!, V)), tf.div(dy!, N))];
  },
  lower(g, [exponentials, sums, labels, dy], _, { inputs: [shape] }) {
    const N = shape![0]!;
    const scale = g.emit("Mul", [dy!, g.float(1 / N)]);
    const probs = g.emit("Mul", [exponentials, g.emit("Div", [scale, sums])]);
    const update = g.emit("Expand", [g.emit("Neg", [scale]), g.ints([N, 1])]);
    const column = g.emit("Reshape", [labels, g.ints([N, 1])]);
    // a row has one label, so no index is met twice
    return g.emit("ScatterElements", [probs, column, update], { axis: 1, reduction: "add" });
  },
};

/** [N] -> [N, V], 1 at the label and 0 elsewhere. tf.oneHot refuses a single class. */
const oneHot = (labels: tf.Tensor, V: number) =>
  tf.cast(tf.equal(tf.reshape(labels, [labels.size, 1]), tf.range(0, V, 1, "int32")), "float32");
