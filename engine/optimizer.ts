// AdamW (Loshchilov and Hutter 2019, algorithm 2) with gradient clipping by the global norm, in one pass over the
// weights. As a chain of graph operations it was slower: every operation would stream all weights once more.

import type { Variable } from "./program.ts";
import { type AdamWFactors, adamw, sumOfSquares } from "./simd.ts";

export interface AdamWOptions {
  beta1: number;
  beta2: number;
  weight_decay: number; // for the variables of the group `decay` only
  grad_clip: number; // longest gradient, as a Euclidean norm over all variables; 0 for no limit
  epsilon?: number;
}

interface State {
  variable: Variable;
  weightDecay: number;
  average: Float32Array; // of the gradient
  square: Float32Array; // of its square
}

export class AdamW {
  /** Updates made so far; the averages start at 0 and are corrected for it by this. */
  steps = 0;
  readonly #options: Required<AdamWOptions>;
  readonly #states: State[];

  constructor(groups: { decay: readonly Variable[]; noDecay: readonly Variable[] }, options: AdamWOptions) {
    this.#options = { epsilon: 1e-8, ...options };
    const state = (variable: Variable, weightDecay: number): State => {
      const zeros = () => new Float32Array(variable.data.length);
      return { variable, weightDecay, average: zeros(), square: zeros() };
    };
    this.#states = [
      ...groups.decay.map((variable) => state(variable, options.weight_decay)),
      ...groups.noDecay.map((variable) => state(variable, 0)),
    ];
  }

  /**
   * Update every variable from its `grad` times `gradScale` (1 over the number of gradients that were added up). A gradient
   * that isn't finite would spoil every weight: then nothing is changed.
   * @returns the norm of the whole gradient before clipping
   */
  step(learningRate: number, gradScale = 1): number {
    const { beta1, beta2, grad_clip, epsilon } = this.#options;
    let sum = 0;
    for (const { variable } of this.#states) sum += sumOfSquares(variable.grad!);
    const norm = Math.sqrt(sum) * gradScale;
    if (!Number.isFinite(norm)) return norm;
    this.steps++;
    const clip = grad_clip > 0 ? Math.min(1, grad_clip / (norm + 1e-6)) : 1; // as PyTorch's clip_grad_norm_
    const rate = learningRate / (1 - beta1 ** this.steps);
    const correction = 1 / Math.sqrt(1 - beta2 ** this.steps);
    for (const { variable, weightDecay, average, square } of this.#states) {
      const shrink = 1 - learningRate * weightDecay;
      const factors = { scale: gradScale * clip, beta1, beta2, shrink, rate, correction, epsilon };
      adamw(variable.data, variable.grad!, average, square, factors);
    }
    return norm;
  }

  /** The averages, under the names that a checkpoint keeps them by. */
  tensors(): { name: string; shape: readonly number[]; data: Float32Array }[] {
    return this.#states.flatMap(({ variable: { name, shape }, average, square }) => [
      { name: `optimizer.exp_avg.${name}`, shape, data: average },
      { name: `optimizer.exp_avg_sq.${name}`, shape, data: square },
    ]);
  }
}

/** The update of one array, one by one and in double precision: what the fast loop (simd.ts) is tested against. */
export function adamwPlain(
  weight: Float32Array,
  grad: Float32Array,
  average: Float32Array,
  square: Float32Array,
  { scale, beta1, beta2, shrink, rate, correction, epsilon }: AdamWFactors,
): void {
  for (let i = 0; i < weight.length; i++) {
    const g = grad[i]! * scale;
    const m = beta1 * average[i]! + (1 - beta1) * g;
    const v = beta2 * square[i]! + (1 - beta2) * g * g;
    average[i] = m;
    square[i] = v;
    weight[i] = weight[i]! * shrink - (rate * m) / (Math.sqrt(v) * correction + epsilon);
  }
}
