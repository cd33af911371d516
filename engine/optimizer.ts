// AdamW (Loshchilov and Hutter 2019, algorithm 2) with gradient clipping by the global norm, in one plain pass over
// the weights. As a chain of graph operations it was slower: every operation would stream all weights once more.

import type { Variable } from "./program.ts";

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
   * Update every variable from its `grad` times `gradScale` (1 over the number of gradients that were added up).
   * @returns the norm of the whole gradient before clipping
   */
  step(learningRate: number, gradScale = 1): number {
    const { beta1, beta2, grad_clip, epsilon } = this.#options;
    this.steps++;
    let sum = 0;
    for (const { variable } of this.#states) sum += squaredNorm(variable.grad!);
    const norm = Math.sqrt(sum) * gradScale;
    const clip = grad_clip > 0 ? Math.min(1, grad_clip / (norm + 1e-6)) : 1; // as PyTorch's clip_grad_norm_
    const rate = learningRate / (1 - beta1 ** this.steps);
    const correction = 1 / Math.sqrt(1 - beta2 ** this.steps);
    for (const state of this.#states) {
      update(state, gradScale * clip, learningRate, rate, beta1, beta2, correction, epsilon);
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

function squaredNorm(x: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i]! * x[i]!;
  return sum;
}

/** A function of its own with nothing but numbers in its loop, which V8 compiles to straight machine code. */
function update(
  { variable, weightDecay, average, square }: State,
  gradScale: number,
  learningRate: number,
  rate: number, // corrected for the start of the average
  beta1: number,
  beta2: number,
  correction: number,
  epsilon: number,
): void {
  const weight = variable.data;
  const grad = variable.grad!;
  const shrink = 1 - learningRate * weightDecay;
  for (let i = 0; i < weight.length; i++) {
    const g = grad[i]! * gradScale;
    const m = beta1 * average[i]! + (1 - beta1) * g;
    const v = beta2 * square[i]! + (1 - beta2) * g * g;
    average[i] = m;
    square[i] = v;
    weight[i] = weight[i]! * shrink - (rate * m) / (Math.sqrt(v) * correction + epsilon);
  }
}
