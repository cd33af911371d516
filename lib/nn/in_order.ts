// For backward passes that process one block of queries after the other: a control dependency, which makes the runtime keep that
// order, and sums of the blocks' gradients.

import { sizeOf } from "../common/shape.ts";
import { tf } from "../common/tf.ts";
import { type FusedKernel, fused } from "./fused.ts";

/**
 * x, computed only after `others` are. The runtime orders a whole graph from its results backwards: without this it would compute
 * all blocks' attention weights, then all gradients of their scores, and keep all of them in memory meanwhile. Any shapes; the
 * values are those of x.
 */
export function controlDependency(x: tf.Tensor, others: readonly tf.Tensor[]): tf.Tensor {
  return others.length === 0 ? x : fused(kernel, [x, ...others])[0]!;
}

const kernel: FusedKernel = {
  name: "After",
  plain: ([x]) => [x!],
  lower(g, [x, ...others], _, { inputs: [shape] }) {
    // one number of each is appended to x and cut off again: the runtime's optimizer can't remove that
    const flat = (name: string) => g.emit("Reshape", [name, g.ints([-1])]);
    const first = (name: string) => g.emit("Slice", [flat(name), g.ints([0]), g.ints([1])]);
    const joined = g.emit("Concat", [flat(x), ...others.map(first)], { axis: 0 });
    const size = sizeOf(shape!);
    return g.emit("Reshape", [g.emit("Slice", [joined, g.ints([0]), g.ints([size])]), g.ints(shape!)]);
  },
};

/**
 * Sums parts that are ranges of rows along an axis, from the last range to the first: neither end of a range is beyond that of the one
 * before. Rows that no later range reaches are set aside, so that the cost is that of the ranges, not of all rows.
 */
export class RowSums {
  readonly #axis: number;
  readonly #done: tf.Tensor[] = []; // rows from #end on, in their order
  #sum: tf.Tensor | undefined; // rows from #from to #end
  #from = 0;
  #end = 0;
  #last = 0; // end of all rows

  constructor(axis: number) {
    this.#axis = axis;
  }

  /** Add a part that has the rows from `from` to `end` - 1. */
  add(part: tf.Tensor, from: number, end: number): void {
    if (!this.#sum) this.#last = end;
    let sum = this.#sum;
    if (sum && end <= this.#from) {
      this.#done.unshift(this.#padded(sum, this.#from - end, 0));
      sum = undefined;
    } else if (sum && end < this.#end) {
      const [rest, done] = tf.split(sum, [end - this.#from, this.#end - end], this.#axis) as [tf.Tensor, tf.Tensor];
      this.#done.unshift(done);
      sum = rest;
    }
    this.#sum = sum ? tf.add(this.#padded(sum, this.#from - from, 0), part) : part;
    [this.#from, this.#end] = [from, end];
  }

  /** The sum of all parts so far, for `controlDependency`. */
  get pending(): tf.Tensor[] {
    return this.#sum ? [this.#sum] : [];
  }

  /** Rows from 0 to `count` - 1; rows without a part are 0. */
  total(count: number): tf.Tensor {
    const parts = [...this.pending, ...this.#done];
    const all = parts.length === 1 ? parts[0]! : tf.concat(parts, this.#axis);
    return this.#padded(all, this.#from, count - this.#last);
  }

  /** Pad with rows of zeros before and after. */
  #padded(x: tf.Tensor, before: number, behind: number): tf.Tensor {
    if (before + behind === 0) return x;
    return tf.pad(
      x,
      x.shape.map((_, i) => (i === this.#axis ? [before, behind] : [0, 0])),
    );
  }
}
