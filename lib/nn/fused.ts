// Fused kernels and custom gradients, for layers with hand-written gradients.
//
// A fused kernel is one call that an engine may run as a whole. All of it is in the file of its layer: the plain tfjs operations that it
// must equal, its gradient (another kernel or plain operations, in the layer's `withGradient`) and its lowering. A backend that
// can't trace runs the plain operations, so every layer works on every tfjs backend. The engine gets a kernel when it is called: it
// keeps no list.

import { tf } from "../common/tf.ts";

import type { FusedAttrs, FusedOp } from "../engine/graph.ts";

/** A complete kernel: its name and lowering (FusedOp), and its plain twin. */
export interface FusedKernel extends FusedOp {
  /** The same in plain tfjs operations, from inputs to results. */
  plain(inputs: tf.Tensor[], attrs: FusedAttrs): tf.Tensor[];
}

/** Run the kernel if the current backend traces, else its twin; both give the same tensors. Undefined inputs are left out; they must
 * be last. */
export function fused(
  kernel: FusedKernel,
  inputs: readonly (tf.Tensor | undefined)[],
  attrs: FusedAttrs = {},
): tf.Tensor[] {
  const given = inputs.filter((tensor) => tensor !== undefined);
  const results = kernel.plain(given, attrs);
  if (!tf.getKernel("Fused", tf.getBackend())) return results;
  // Nothing was computed: the twin gave the results' shapes, and its recorded kernels are unused and dropped.
  const shapes = results.map(({ shape }) => shape);
  const call = { kernel, attrs, shapes } as unknown as tf.NamedAttrMap; // handed through to lib/engine/trace.ts as it is
  return [
    tf.engine().runKernel<tf.Tensor | tf.Tensor[]>("Fused", { ...given } as unknown as tf.NamedTensorMap, call),
  ].flat();
}

/** A function's value, the tensors saved for its gradient, and the gradient: from dy (and the saved tensors) to one tensor per input. It
 * may use only saved tensors: others are disposed of by then. */
export interface Differentiable {
  value: tf.Tensor;
  saved: tf.Tensor[];
  gradient: (dy: tf.Tensor, saved: tf.Tensor[]) => tf.Tensor[];
}

/** Apply a function with a custom gradient, which tfjs' tape uses instead of those of the operations inside. */
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
