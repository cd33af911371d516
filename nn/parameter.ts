// A weight of a model: its name in a checkpoint, its shape, how it starts, its numbers.

import * as tf from "@tensorflow/tfjs";

/** How a weight starts: normally distributed around 0 with a deviation, or the same number everywhere. */
export type Init = { normal: number } | { constant: number };

export class Parameter {
  /** Told of every weight whose tensor is asked for, while somebody wants to know. */
  static onRead: ((weight: Parameter) => void) | undefined;
  readonly name: string;
  readonly shape: readonly number[];
  readonly init: Init;
  readonly data: Float32Array;
  grad?: Float32Array;
  #bound: tf.Tensor | undefined;

  constructor(name: string, shape: readonly number[], init: Init) {
    this.name = name;
    this.shape = shape;
    this.init = init;
    this.data = new Float32Array(shape.reduce((product, size) => product * size, 1));
    if ("constant" in init) this.data.fill(init.constant);
  }

  /** The tensor that stands for this weight: what an engine bound for the time of a run, else the numbers themselves. */
  get value(): tf.Tensor {
    Parameter.onRead?.(this);
    return this.#bound && !this.#bound.isDisposed ? this.#bound : tf.tensor(this.data, [...this.shape]);
  }

  set value(tensor: tf.Tensor) {
    this.#bound = tensor;
  }
}
