// What every layer with a gradient of its own is made of.
//
// A fused kernel is one call that an engine may run as one piece, and beside it the plain tfjs operations that it must
// equal: its twin. A backend without the kernel runs the twin, so every layer works on every tfjs backend.

import * as tf from "@tensorflow/tfjs";

/** Run the kernel where the current backend has it, else its twin; both give the same tensors. */
export function fused(
  kernel: string,
  inputs: Record<string, tf.Tensor | undefined>,
  attributes: Record<string, number | boolean>,
  twin: () => tf.Tensor[],
): tf.Tensor[] {
  if (!tf.getKernel(kernel, tf.getBackend())) return twin();
  const given = Object.fromEntries(Object.entries(inputs).filter(([, tensor]) => tensor)) as tf.NamedTensorMap;
  return [tf.engine().runKernel<tf.Tensor | tf.Tensor[]>(kernel, given, attributes)].flat();
}

/** A function's value, what its gradient needs of it, and the gradient: from dy (and what was saved) to one tensor an
 * input. It may use only what was saved: other tensors are gone when the gradient is computed. */
export interface Differentiable {
  value: tf.Tensor;
  saved: tf.Tensor[];
  gradient: (dy: tf.Tensor, saved: tf.Tensor[]) => tf.Tensor[];
}

/** Apply a function that brings its own gradient; tfjs' tape takes it in place of the operations inside. */
export function withGradient(inputs: tf.Tensor[], forward: (...inputs: tf.Tensor[]) => Differentiable): tf.Tensor {
  return tf.customGrad((...args) => {
    const save = args.pop() as unknown as tf.GradSaveFunc;
    const { value, saved, gradient } = forward(...(args as tf.Tensor[]));
    save(saved);
    return { value, gradFunc: gradient };
  })(...inputs);
}

/** x [..., C] as a matrix [N, C]. */
export function asRows(x: tf.Tensor): tf.Tensor2D {
  const C = x.shape[x.rank - 1]!;
  return tf.reshape(x, [x.size / C, C]);
}
