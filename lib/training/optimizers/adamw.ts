// AdamW (Loshchilov and Hutter 2019, algorithm 2) with gradient clipping by the global norm, in one pass over the
// weights. As a chain of graph operations it was slower: every operation would stream all weights once more.
// The others are in optimizers/, a file each; docs/concepts/optimization.md compares them.

import { inPieces } from "../../common/breathe.ts";
import { type AdamWFactors, adamw } from "../../common/simd.ts";
import type { Variable } from "../../engine/runtime/program.ts";
import { measureGradient } from "./gradient.ts";

/** The weights that shrink by weight_decay, and those that don't. */
export interface Groups {
  decay: readonly Variable[];
  noDecay: readonly Variable[];
}

/** What every choice of `optimizer` is. All are made with zeros for state. */
export interface Optimizer {
  /** Updates made so far. */
  steps: number;
  /**
   * Update every variable from its `grad` times `gradScale` (1 over the number of gradients that were added up). A gradient
   * that isn't finite would spoil every weight: then nothing is changed.
   * @returns the norm of the whole gradient before clipping
   */
  step(learningRate: number, gradScale?: number): Promise<number>;
  /** The state, under the names that a checkpoint keeps it by; to restore one, fill the arrays and set `steps`. */
  tensors(): StateTensor[];
}

export type StateTensor = { name: string; shape: readonly number[]; data: Float32Array };

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

export class AdamW implements Optimizer {
  /** Updates made so far; the averages start at 0 and are corrected for it by this. */
  steps = 0;
  readonly #options: Required<AdamWOptions>;
  readonly #states: State[];

  constructor(groups: Groups, options: AdamWOptions) {
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

  async step(learningRate: number, gradScale = 1): Promise<number> {
    const variables = this.#states.map(({ variable }) => variable);
    const { norm, scale } = await measureGradient(variables, gradScale, this.#options.grad_clip);
    if (Number.isFinite(norm)) await this.update(learningRate, scale);
    return norm;
  }

  /** Update every variable from its `grad` times `scale`, which is finite. */
  async update(learningRate: number, scale: number): Promise<void> {
    const { beta1, beta2, epsilon } = this.#options;
    this.steps++;
    const rate = learningRate / (1 - beta1 ** this.steps);
    const correction = 1 / Math.sqrt(1 - beta2 ** this.steps);
    for (const { variable, weightDecay, average, square } of this.#states) {
      const shrink = 1 - learningRate * weightDecay;
      const factors = { scale, beta1, beta2, shrink, rate, correction, epsilon };
      const { data, grad } = variable;
      await inPieces(data.length, (from, to) => {
        const [weight, gradient] = [data.subarray(from, to), grad!.subarray(from, to)];
        adamw(weight, gradient, average.subarray(from, to), square.subarray(from, to), factors);
      });
    }
  }

  /** The averages. */
  tensors(): StateTensor[] {
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
