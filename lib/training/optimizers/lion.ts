// Lion (Chen et al. 2023, "Symbolic discovery of optimization algorithms", algorithm 2): every weight moves by the
// learning rate, up or down. One average a weight, half of AdamW's memory.

import { inPieces } from "../../common/breathe.ts";
import { type LionFactors, lion } from "../../common/simd.ts";
import type { Variable } from "../../engine/runtime/program.ts";
import type { Groups, Optimizer, StateTensor } from "./adamw.ts";
import { measureGradient } from "./gradient.ts";

export interface LionOptions {
  beta1: number; // how much of the average goes into the sign
  beta2: number; // how much of it is kept
  weight_decay: number; // for the variables of the group `decay` only
  grad_clip: number; // longest gradient, as a Euclidean norm over all variables; 0 for no limit
}

export class Lion implements Optimizer {
  steps = 0;
  readonly #options: LionOptions;
  readonly #states: { variable: Variable; weightDecay: number; average: Float32Array }[];

  constructor({ decay, noDecay }: Groups, options: LionOptions) {
    this.#options = options;
    this.#states = [...decay, ...noDecay].map((variable, i) => ({
      variable,
      weightDecay: i < decay.length ? options.weight_decay : 0,
      average: new Float32Array(variable.data.length),
    }));
  }

  async step(learningRate: number, gradScale = 1): Promise<number> {
    const { beta1, beta2, grad_clip } = this.#options;
    const variables = this.#states.map(({ variable }) => variable);
    const { norm, scale } = await measureGradient(variables, gradScale, grad_clip);
    if (!Number.isFinite(norm)) return norm;
    this.steps++;
    for (const { variable, weightDecay, average } of this.#states) {
      const factors = { scale, beta1, beta2, shrink: 1 - learningRate * weightDecay, rate: learningRate };
      const { data, grad } = variable;
      await inPieces(data.length, (from, to) => {
        lion(data.subarray(from, to), grad!.subarray(from, to), average.subarray(from, to), factors);
      });
    }
    return norm;
  }

  /** The averages. */
  tensors(): StateTensor[] {
    return this.#states.map(({ variable: { name, shape }, average }) => {
      return { name: `optimizer.exp_avg.${name}`, shape, data: average };
    });
  }
}

/**
 * The update of one array, one by one and in double precision: what the fast loop (simd.ts) is tested against.
 * w <- shrink w - rate sign(beta1 m + (1 - beta1) g), then m <- beta2 m + (1 - beta2) g; g is `grad` times `scale`.
 */
export function lionPlain(
  weight: Float32Array,
  grad: Float32Array,
  average: Float32Array,
  { scale, beta1, beta2, shrink, rate }: LionFactors,
): void {
  for (let i = 0; i < weight.length; i++) {
    const g = grad[i]! * scale;
    const m = average[i]!;
    weight[i] = weight[i]! * shrink - rate * Math.sign(beta1 * m + (1 - beta1) * g);
    average[i] = beta2 * m + (1 - beta2) * g;
  }
}
