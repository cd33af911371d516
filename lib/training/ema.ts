// An average of the weights over the steps of a run (Polyak and Juditsky 1992), exponential: it follows the weights with
// less noise, and often predicts better than any of them. The run itself goes on from the weights and never sees it.

import { breathe } from "../common/breathe.ts";
import type { Variable } from "../engine/runtime/program.ts";
import type { StateTensor } from "./optimizers/optimizer.ts";

/** What comes before a weight's name in a checkpoint, for its average. */
export const EMA_PREFIX = "ema.";

export class WeightAverage {
  /** Updates made so far. */
  steps = 0;
  readonly #decay: number;
  readonly #states: { variable: Variable; average: Float32Array }[];

  /** Starts at what the weights are now. @param decay how much of the average stays at a step, 0 to below 1 */
  constructor(variables: readonly Variable[], decay: number) {
    this.#decay = decay;
    this.#states = variables.map((variable) => ({ variable, average: variable.data.slice() }));
  }

  /** Begin anew from what the weights are now. */
  restart(): void {
    this.steps = 0;
    for (const { variable, average } of this.#states) average.set(variable.data);
  }

  /**
   * Count an update, average <- average + f (weight - average), which lib/training/update.ts makes part of the weights'.
   * @returns f = 1 - decay. Early on the decay is (1 + steps) / (10 + steps), as in TensorFlow's ExponentialMovingAverage:
   * else the random weights of the start would weigh for some 1 / (1 - decay) steps.
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

  /** Run `body` with the weights being their average; they are themselves again when it ends, to the bit. */
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

  /** The averages, under the names that a checkpoint keeps them by. */
  tensors(): StateTensor[] {
    return this.#states.map(({ variable: { name, shape }, average }) => {
      return { name: EMA_PREFIX + name, shape, data: average };
    });
  }
}
