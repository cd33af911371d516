// A weight of a model: its name in a checkpoint, its shape, how it starts, its numbers.

import { sizeOf } from "../common/shape.ts";
import { tf } from "../common/tf.ts";

/** How a weight starts: normally distributed around 0 with a deviation, or the same number everywhere. */
export type Init = { normal: number } | { constant: number };

/** What a weight does in the model. Optimizers that treat some weights differently decide by it, never by the name. */
export type Role =
  | "embedding" // a table that is looked up by token or distance
  | "position" // one with a row for each position of the context
  | "hidden" // the matrix of a linear layer inside a block, or a stack of such (experts)
  | "head" // the output layer, where it isn't the token embeddings
  | "router" // a mixture's: chooses experts
  | "norm"
  | "bias";

export class Parameter {
  /** Debug hook: called with every weight whose tensor is read. */
  static onRead: ((weight: Parameter) => void) | undefined;
  readonly name: string;
  shape: readonly number[];
  readonly init: Init;
  readonly role: Role;
  /** Widths of the column blocks that are matrices with a meaning each, as query, key and value in c_attn; they sum to the
   * last dimension. */
  readonly splits: readonly number[];
  /** How many numbers it has. */
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

  /** The numbers. Made when they are first asked for: a model whose shapes alone are wanted takes no memory. */
  get data(): Float32Array {
    if (!this.#data) {
      this.#data = new Float32Array(this.size);
      if ("constant" in this.init) this.#data.fill(this.init.constant);
    }
    return this.#data;
  }

  /** Keep the first `rows` of a table, and drop the others. */
  crop(rows: number): void {
    this.#data = this.data.slice(0, (this.size / this.shape[0]!) * rows);
    this.shape = [rows, ...this.shape.slice(1)];
    this.size = this.#data.length;
    this.#bound = undefined;
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
