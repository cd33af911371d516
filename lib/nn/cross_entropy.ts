// Cross-entropy over a vocabulary.

import { tf } from "../common/tf.ts";

import { type FusedKernel, fused, withGradient } from "./fused.ts";

/**
 * Mean over all rows of -log softmax(logits)[label], in nats.
 * @param logits [N, V]
 * @param labels [N], int32 in [0, V)
 * @param some labels may be -1: these rows don't count; the mean is over the others, 0 if there are none
 */
export function crossEntropy(logits: tf.Tensor, labels: tf.Tensor, some = false): tf.Scalar {
  const counts = some ? [shares(labels)] : [];
  const known = some ? tf.maximum(labels, tf.scalar(0, "int32")) : labels;
  const loss = withGradient([logits], (logits) => {
    const [value, exponentials, sums] = fused(kernel, [logits, known, ...counts]) as [tf.Tensor, tf.Tensor, tf.Tensor];
    const saved = [exponentials, sums, known, ...counts];
    return { value, saved, gradient: (dy, saved) => fused(gradient, [dy, ...saved]) };
  });
  return loss as tf.Scalar;
}

/** labels [N] -> each row's weight in the mean, [N, 1]: equal for all but those of -1, which have 0. */
function shares(labels: tf.Tensor): tf.Tensor {
  const counts = tf.cast(tf.greaterEqual(labels, 0), "float32");
  return tf.reshape(tf.div(counts, tf.maximum(tf.sum(counts), 1)), [-1, 1]);
}

// Sub, Exp, and in the gradient Mul and ScatterElements, all work in place: over a large vocabulary the logits are the
// largest tensor of a step, and only one copy of them exists.

/** logits [N, V], labels [N], shares [N, 1] if they differ -> the loss [], exp(logits - max) [N, V], its row sums [N, 1]. */
const kernel: FusedKernel = {
  name: "CrossEntropy",
  plain([logits, labels, shares]) {
    const shifted = tf.sub(logits!, tf.max(logits!, -1, true));
    const exponentials = tf.exp(shifted);
    const sums = tf.sum(exponentials, -1, true);
    const right = tf.sum(tf.mul(shifted, oneHot(labels!, logits!.shape[1]!)), -1, true);
    const losses = tf.sub(tf.log(sums), right);
    return [shares ? tf.sum(tf.mul(losses, shares)) : tf.mean(losses), exponentials, sums];
  },
  lower(g, [logits, labels, shares], _, { inputs: [logitsShape] }) {
    const shifted = g.emit("Sub", [logits, g.emit("ReduceMax", [logits, g.ints([-1])], { keepdims: 1 })]);
    const exponentials = g.emit("Exp", [shifted]);
    const sums = g.emit("ReduceSum", [exponentials, g.ints([-1])], { keepdims: 1 });
    const logs = g.emit("Log", [sums]);
    // recorded last, so the runtime gathers these numbers first (lib/engine/onnx.ts), before Exp overwrites them
    const column = g.emit("Reshape", [labels, g.ints([logitsShape![0]!, 1])]);
    const right = g.emit("GatherElements", [shifted, column], { axis: 1 });
    const losses = g.emit("Sub", [logs, right]);
    const loss = shares
      ? g.emit("ReduceSum", [g.emit("Mul", [losses, shares])], { keepdims: 0 })
      : g.emit("ReduceMean", [losses], { keepdims: 0 });
    return [loss, exponentials, sums];
  },
};

/** dy [], exponentials [N, V], sums [N, 1], labels [N], shares [N, 1] if they differ -> dlogits [N, V]: softmax minus one-hot,
 * times a row's share. */
const gradient: FusedKernel = {
  name: "CrossEntropyGrad",
  plain([dy, exponentials, sums, labels, shares]) {
    const [N, V] = exponentials!.shape as [number, number];
    return [tf.mul(tf.sub(tf.div(exponentials!, sums!), oneHot(labels!, V)), tf.mul(dy!, shares ?? 1 / N))];
  },
  lower(g, [dy, exponentials, sums, labels, shares], _, { inputs: [, shape] }) {
    const N = shape![0]!;
    const scale = g.emit("Mul", [dy!, shares ?? g.float(1 / N)]);
    const probs = g.emit("Mul", [exponentials, g.emit("Div", [scale, sums])]);
    const update = g.emit("Expand", [g.emit("Neg", [scale]), g.ints([N, 1])]);
    const column = g.emit("Reshape", [labels!, g.ints([N, 1])]);
    // a row has one label, so there are no duplicate indices
    return g.emit("ScatterElements", [probs, column, update], { axis: 1, reduction: "add" });
  },
};

/** [N] -> [N, V], 1 at the label and 0 elsewhere. tf.oneHot refuses a single class. */
const oneHot = (labels: tf.Tensor, V: number) =>
  tf.cast(tf.equal(tf.reshape(labels, [labels.size, 1]), tf.range(0, V, 1, "int32")), "float32");
