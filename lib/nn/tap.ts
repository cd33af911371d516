// Lets somebody look at what is computed inside a model: layers name a tensor, and while nobody listens that does nothing.

import type * as tf from "@tensorflow/tfjs";

export type Listener = (name: string, x: tf.Tensor) => void;

let listener: Listener | undefined;

/** Show `x` to who listens, under a name. @returns x */
export function tap(name: string, x: tf.Tensor): tf.Tensor {
  listener?.(name, x);
  return x;
}

/** Run `body`, and show `listen` every tensor that is named meanwhile: the layers' in their order. */
export function withTaps<T>(listen: Listener, body: () => T): T {
  listener = listen;
  try {
    return body();
  } finally {
    listener = undefined;
  }
}
