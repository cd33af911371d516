// Chooses between a formula in plain tfjs, as in model.ts, and a faster kernel for it, by comparing their results: an edited formula runs
// as written, everywhere.

import { tf } from "../common/tf.ts";

import type { DropoutRng } from "./dropout.ts";

type Formula = (...args: never[]) => tf.Tensor;

export interface Kernel<F extends Formula> {
  readonly name: string; // the formula's, with what its samples depend on
  readonly run: F;
  /** Arguments for the comparison: fixed numbers that distinguish formulas. The same for each call. */
  samples(): Parameters<F>[];
}

/** Tolerance, for values of about 1: a kernel sums in another order. */
const TOLERANCE = 2e-5;

const verdicts = new WeakMap<Formula, Map<string, boolean>>();

/**
 * The kernel if it computes the same as the formula, else the formula. Compares their values on tfjs' CPU backend, once for each pair;
 * not their gradients, which would double the time (an edit that changes only the gradient, by tf.customGrad, isn't noticed). Call
 * it when a model is created, not during tracing.
 */
export function fast<F extends Formula>(kernel: Kernel<F>, formula: F): F {
  return computesTheSame(kernel, formula) ? kernel.run : formula;
}

/** Does the kernel equal the formula? If not, prints a line. */
export function computesTheSame<F extends Formula>(kernel: Kernel<F>, formula: F): boolean {
  const known = verdicts.get(formula) ?? new Map<string, boolean>();
  verdicts.set(formula, known);
  const verdict = known.get(kernel.name) ?? compare(kernel, formula);
  if (!verdict && ![...known.values()].includes(false)) {
    const name = formula.name || kernel.name;
    console.error(
      `${name} is not GPT-2's any more: the formula runs as it is written, in training, sampling and export`,
    );
  }
  known.set(kernel.name, verdict);
  return verdict;
}

function compare<F extends Formula>({ run, samples }: Kernel<F>, formula: F): boolean {
  return onCpu(() => {
    const [ours, theirs] = [run, formula].map((f) => samples().map((args) => f(...args).dataSync())); // an rng is consumed
    return ours!.every((numbers, i) => numbers.every((a, j) => isClose(a, theirs![i]![j]!)));
  });
}

/** Run `body` on tfjs' CPU backend, in a tidy. */
export function onCpu(body: () => boolean): boolean {
  const before = tf.getBackend() || "cpu"; // a new process has none yet
  void tf.setBackend("cpu"); // synchronous for this backend
  try {
    return tf.tidy(body as () => tf.TensorContainer) as boolean;
  } finally {
    void tf.setBackend(before);
  }
}

const isClose = (a: number, b: number) => Math.abs(a - b) <= TOLERANCE * (1 + Math.abs(b));

/** Fixed numbers between -size and size, without a pattern. */
export function numbers(shape: readonly number[], seed: number, size = 1): tf.Tensor {
  const count = shape.reduce((product, n) => product * n, 1);
  const data = Float32Array.from({ length: count }, (_, i) => size * Math.sin(seed + i * (i + 0.7)));
  return tf.tensor(data, [...shape]);
}

/** Fixed random choices. */
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
