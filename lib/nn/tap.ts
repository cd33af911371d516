// Activation hooks: layers report named tensors to a listener, if there is one.

import type { tf } from "../common/tf.ts";

export type Listener = (name: string, x: tf.Tensor) => void;

let listener: Listener | undefined;

/** Report `x` to the listener under a name. @returns x */
export function tap(name: string, x: tf.Tensor): tf.Tensor {
  listener?.(name, x);
  return x;
}

/** Run `body`, and report every named tensor to `listen`, in the order of the layers. */
export function withTaps<T>(listen: Listener, body: () => T): T {
  listener = listen;
  try {
    return body();
  } finally {
    listener = undefined;
  }
}
