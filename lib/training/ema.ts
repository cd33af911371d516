// EMA of the weights (Polyak and Juditsky 1992): an exponential moving average over the steps of a run, with less noise than the
// weights and often a lower loss. Training itself continues from the weights and never uses it.

import { breathe } from "../common/breathe.ts";
import type { Variable } from "../engine/runtime/program.ts";
import type { StateTensor } from "./optimizers/optimizer.ts";

/** Prefix of a weight's name in a checkpoint, for its EMA. */
export const EMA_PREFIX = "ema.";

export class WeightAverage {
  /** Updates made so far. */
  steps = 0;
  readonly #decay: number;
  readonly #states: { variable: Variable; average: Float32Array }[];

  /** Starts at the present weights. @param decay how much of the average is kept at a step, 0 to below 1 */
  constructor(variables: readonly Variable[], decay: number) {
    this.#decay = decay;
    this.#states = variables.map((variable) => ({ variable, average: variable.data.slice() }));
  }

  /** Start again from the present weights. */
  restart(): void {
    this.steps = 0;
    for (const { variable, average } of this.#states) average.set(variable.data);
  }

  /**
   * Count an update, average <- average + f (weight - average), which lib/training/update.ts computes with the weights' own.
   * @returns f = 1 - decay. Early on the decay is (1 + steps) / (10 + steps), as in TensorFlow's ExponentialMovingAverage:
   * else the random initial weights would count for some 1 / (1 - decay) steps.
   */
  advance(): number {
    const decay = Math.min(this.#decay, (1 + this.steps) / (10 + this.steps));
    this.steps++;
    return 1 - decay;
  }

  /** The averages by the weights' names. */
  arrays(): [name: string, average: Float32Array][] {
    return this.#states.map(({ variable, average }) => [variable.name, average]);
  }

  /** Run `body` with the EMA in place of the weights; they are restored bit for bit when it ends. */
  async during<T>(body: () => Promise<T>): Promise<T> {
    await this.#swap();
    try {
      return await body();
    } finally {
      await this.#swap();
    }
  }

  async #swap(): Promise<void> {
    for (const { variable, average } of this.#states) {
      await breathe();
      const weights = variable.data.slice();
      variable.data.set(average);
      average.set(weights);
    }
  }

  /** The averages, by their names in a checkpoint. */
  tensors(): StateTensor[] {
    return this.#states.map(({ variable: { name, shape }, average }) => {
      return { name: EMA_PREFIX + name, shape, data: average };
    });
  }
}
