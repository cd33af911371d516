// Gradient descent with momentum (Polyak 1964), in PyTorch's form: the momentum is a sum, so that a gradient that stays
// the same moves a weight by rate / (1 - momentum) of it at every step. Weight decay is apart from the gradient, as AdamW
// has it (Loshchilov and Hutter 2019, algorithm 1); PyTorch's SGD adds it to the gradient instead. Left out: Nesterov.

import { inPieces } from "../../common/breathe.ts";
import type { Variable } from "../../engine/runtime/program.ts";
import type { Groups, Optimizer, StateTensor } from "./adamw.ts";
import { measureGradient } from "./gradient.ts";

export interface SGDOptions {
  momentum: number;
  weight_decay: number; // for the variables of the group `decay` only
  grad_clip: number; // longest gradient, as a Euclidean norm over all variables; 0 for no limit
}

export class SGD implements Optimizer {
  steps = 0;
  readonly #options: SGDOptions;
  readonly #states: { variable: Variable; weightDecay: number; velocity: Float32Array }[];

  constructor({ decay, noDecay }: Groups, options: SGDOptions) {
    this.#options = options;
    this.#states = [...decay, ...noDecay].map((variable, i) => ({
      variable,
      weightDecay: i < decay.length ? options.weight_decay : 0,
      velocity: new Float32Array(variable.data.length),
    }));
  }

  async step(learningRate: number, gradScale = 1): Promise<number> {
    const { momentum, grad_clip } = this.#options;
    const variables = this.#states.map(({ variable }) => variable);
    const { norm, scale } = await measureGradient(variables, gradScale, grad_clip);
    if (!Number.isFinite(norm)) return norm;
    this.steps++;
    for (const { variable, weightDecay, velocity } of this.#states) {
      const { data, grad } = variable;
      const shrink = 1 - learningRate * weightDecay;
      await inPieces(data.length, (from, to) => {
        const [weight, gradient] = [data.subarray(from, to), grad!.subarray(from, to)];
        sgd(weight, gradient, velocity.subarray(from, to), scale, momentum, shrink, learningRate);
      });
    }
    return norm;
  }

  /** The velocities. */
  tensors(): StateTensor[] {
    return this.#states.map(({ variable: { name, shape }, velocity }) => {
      return { name: `optimizer.momentum_buffer.${name}`, shape, data: velocity };
    });
  }
}

/** v <- momentum v + scale grad, then w <- shrink w - rate v. */
function sgd(
  weight: Float32Array,
  grad: Float32Array,
  velocity: Float32Array,
  scale: number,
  momentum: number,
  shrink: number,
  rate: number,
): void {
  for (let i = 0; i < weight.length; i++) {
    const v = momentum * velocity[i]! + scale * grad[i]!;
    velocity[i] = v;
    weight[i] = shrink * weight[i]! - rate * v;
  }
}
