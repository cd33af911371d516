// A formula in plain tfjs, as model.ts shows it, and a kernel that computes the same faster. Which of them runs is decided here, by
// comparing their numbers: an edited formula runs as it is written, everywhere.

import { tf } from "../common/tf.ts";

import type { DropoutRng } from "./dropout.ts";

type Formula = (...args: never[]) => tf.Tensor;

export interface Kernel<F extends Formula> {
  readonly name: string; // the formula's, and what its samples depend on
  readonly run: F;
  /** Arguments to compare both with: fixed numbers that tell one formula from another. The same for each call. */
  samples(): Parameters<F>[];
}

/** Of values of about 1, on either side: a kernel adds up in another order. */
const TOLERANCE = 2e-5;

const verdicts = new WeakMap<Formula, Map<string, boolean>>();

/**
 * The kernel where it computes what the formula says, else the formula. Compares their values, once for a formula and kernel, on
 * tfjs' CPU backend; not their gradients, which would take as long again as all of it (a formula that has another gradient for the
 * same values, by tf.customGrad, is the one edit that isn't seen). Call it when a model is made, not while one is traced.
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
    const [ours, theirs] = [run, formula].map((f) => samples().map((args) => f(...args).dataSync())); // an rng is used up
    return ours!.every((numbers, i) => numbers.every((a, j) => isClose(a, theirs![i]![j]!)));
  });
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
