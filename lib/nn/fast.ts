// A formula in plain tfjs, as model.ts shows it, and a kernel that computes the same faster. Which of them runs is decided here, by
// comparing their numbers: a formula that somebody has edited runs as it was written, everywhere.

import * as tf from "@tensorflow/tfjs";

import type { DropoutRng } from "./dropout.ts";

type Formula = (...args: never[]) => tf.Tensor;

export interface Kernel<F extends Formula> {
  readonly name: string; // the formula's, and what its samples depend on
  readonly run: F;
  readonly inputs: number; // the first arguments, by which there are gradients
  /** Arguments to compare both with: fixed numbers that tell one formula from another. The first are for gradients, too. The same
   * for each call. */
  samples(): Parameters<F>[];
}

/** Of values and gradients of about 1, on either side: a kernel adds up in another order. */
const TOLERANCE = 2e-5;

const verdicts = new WeakMap<Formula, Map<string, boolean>>();

/**
 * The kernel where it computes what the formula says, else the formula. Compares values and gradients once for a formula and
 * kernel, on tfjs' CPU backend; takes a few milliseconds. Call it when a model is made, not while one is traced.
 */
export function fast<F extends Formula>(kernel: Kernel<F>, formula: F): F {
  return computesTheSame(kernel, formula) ? kernel.run : formula;
}

/** Is the kernel as good as the formula? Says so in a line where it isn't. */
export function computesTheSame<F extends Formula>(kernel: Kernel<F>, formula: F): boolean {
  const known = verdicts.get(formula) ?? new Map<string, boolean>();
  verdicts.set(formula, known);
  const verdict = known.get(kernel.name) ?? compare(kernel, formula);
  if (!verdict && ![...known.values()].includes(false)) {
    console.error(
      `${formula.name || kernel.name} is not GPT-2's any more: the formula runs as it is written, in training, sampling and export`,
    );
  }
  known.set(kernel.name, verdict);
  return verdict;
}

function compare<F extends Formula>({ run, inputs, samples }: Kernel<F>, formula: F): boolean {
  return onCpu(() =>
    samples().every((_, i) => {
      const [ours, theirs] = [run, formula].map((f) => evaluate(f, samples()[i]!, i === 0 ? inputs : 0));
      return ours!.every((numbers, part) => numbers.every((a, j) => isClose(a, theirs![part]![j]!)));
    }),
  );
}

/** Run `body` on tfjs' CPU backend, in a tidy. */
export function onCpu(body: () => boolean): boolean {
  const before = tf.getBackend() || "cpu"; // none is chosen yet in a new process
  void tf.setBackend("cpu"); // at once: only backends that load something make one wait
  try {
    return tf.tidy(body as () => tf.TensorContainer) as boolean;
  } finally {
    void tf.setBackend(before);
  }
}

const isClose = (a: number, b: number) => Math.abs(a - b) <= TOLERANCE * (1 + Math.abs(b));

/** A function's value, and the gradients by its first `inputs` arguments of a weighted sum of it. */
function evaluate<F extends Formula>(f: F, args: Parameters<F>, inputs: number): number[][] {
  const given = (args as unknown[]).slice(0, inputs).filter((arg) => arg instanceof tf.Tensor);
  let value: number[] = [];
  const weighed = () => {
    const y = f(...args);
    value = [...y.dataSync()];
    return tf.sum(tf.mul(y, numbers(y.shape, 5))) as tf.Tensor;
  };
  if (given.length === 0) {
    weighed();
    return [value];
  }
  const { grads } = tf.engine().gradients(weighed, given, undefined, true);
  return [value, ...grads.map((grad, i) => [...(grad ?? tf.zerosLike(given[i]!)).dataSync()])];
}

/** Fixed numbers between -size and size, without a pattern. */
export function numbers(shape: readonly number[], seed: number, size = 1): tf.Tensor {
  const count = shape.reduce((product, n) => product * n, 1);
  const data = Float32Array.from({ length: count }, (_, i) => size * Math.sin(seed + i * (i + 0.7)));
  return tf.tensor(data, [...shape]);
}

/** Random choices that are always the same. */
export function fixedRng(): DropoutRng {
  let calls = 0;
  const integers = (shape: readonly number[], bits: number) => {
    const count = shape.reduce((product, n) => product * n, 1);
    const start = 77 * ++calls;
    return Int32Array.from({ length: count }, (_, i) => Math.imul(start + i, 0x9e3779b1) >> (32 - bits));
  };
  return {
    keep: (shape, rate) =>
      tf.tensor(
        integers(shape, 16).map((n) => Number(n + 2 ** 15 >= rate * 2 ** 16)),
        [...shape],
        "bool",
      ),
    integers: (shape, bits) => tf.tensor(integers(shape, bits), [...shape], "int32"),
  };
}
