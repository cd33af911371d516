// A weight of a model: its name in a checkpoint, shape, initial value and numbers.

import { sizeOf } from "../common/shape.ts";
import { tf } from "../common/tf.ts";

/** A weight's initial value: normally distributed around 0 with a standard deviation, or constant. */
export type Init = { normal: number } | { constant: number };

/** The role of a weight in the model. Optimizers that treat some weights differently go by it, never by the name. */
export type Role =
  | "embedding" // a table that is looked up by token or distance
  | "position" // a table with a row for each position of the context
  | "hidden" // the matrix of a linear layer inside a block, or a stack of such (experts)
  | "head" // the output layer, if untied
  | "router" // a mixture's, which chooses experts
  | "norm"
  | "bias";

export class Parameter {
  /** Debug hook: called with every weight whose tensor is read. */
  static onRead: ((weight: Parameter) => void) | undefined;
  readonly name: string;
  shape: readonly number[];
  readonly init: Init;
  readonly role: Role;
  /** Widths of packed matrices, such as query, key and value in c_attn; they sum to the last dimension. */
  readonly splits: readonly number[];
  /** The number of elements. */
  size: number;
  grad?: Float32Array;
  #data: Float32Array | undefined;
  #bound: tf.Tensor | undefined;

  constructor(
    name: string,
    shape: readonly number[],
    init: Init,
    role: Role = "hidden",
    splits: readonly number[] = shape.slice(-1),
  ) {
    this.name = name;
    this.shape = shape;
    this.init = init;
    this.role = role;
    this.splits = splits;
    this.size = sizeOf(shape);
  }

  /** The numbers, allocated at the first access: a model used only for its shapes takes no memory. */
  get data(): Float32Array {
    if (!this.#data) {
      this.#data = new Float32Array(this.size);
      if ("constant" in this.init) this.#data.fill(this.init.constant);
    }
    return this.#data;
  }

  /** Keep only the first `rows` of a table. */
  crop(rows: number): void {
    this.#data = this.data.slice(0, (this.size / this.shape[0]!) * rows);
    this.shape = [rows, ...this.shape.slice(1)];
    this.size = this.#data.length;
    this.#bound = undefined;
  }

  /** The tensor of this weight: the one that an engine has bound during a run, else one of its numbers. */
  get value(): tf.Tensor {
    Parameter.onRead?.(this);
    return this.#bound && !this.#bound.isDisposed ? this.#bound : tf.tensor(this.data, [...this.shape]);
  }

  set value(tensor: tf.Tensor) {
    this.#bound = tensor;
  }
}
