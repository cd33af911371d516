// The contract of an optimizer: formulas over tensors, in plain tfjs, independent of the engine that runs them. Each optimizer is a
// file beside this one; lib/training/update.ts turns one into a program over all weights of a model, with what they share:
// clipping by the global norm, weight decay, the EMA of the weights.

import type { tf } from "../../common/tf.ts";

import type { Shape } from "../../engine/graph.ts";
import type { Variable } from "../../engine/runtime/program.ts";
import type { Parameter } from "../../nn/parameter.ts";

/** What an optimizer may know about a weight besides its values. */
export type Weight = Pick<Parameter, "name" | "shape" | "role" | "splits">;

/** A trained weight. */
export type Trained = Weight & Variable;

/** A tensor of a checkpoint. */
export type StateTensor = { name: string; shape: Shape; data: Float32Array };

/** The weights that shrink by weight_decay, and those that don't. */
export interface Groups {
  decay: readonly Trained[];
  noDecay: readonly Trained[];
}

/** Float32 tensors by name. */
export type Tensors<Name extends string> = Record<Name, tf.Tensor>;

/** @typeParam State names of the state tensors, as in a checkpoint @typeParam Rate names of the rates */
export interface Optimizer<State extends string = string, Rate extends string = string> {
  /** Shapes of a weight's state, which starts as zeros. */
  state(weight: Weight): Partial<Record<State, Shape>>;
  /** The numbers that change from step to step. @param step counted from 1 */
  rates(step: number, learningRate: number): Record<Rate, number>;
  /** Is the update elementwise? Then a large weight may be updated in pieces. */
  elementwise(weight: Weight): boolean;
  /**
   * One step of one weight: its new values and state. Both overwrite the old ones, so every read of an old tensor must come before
   * its new values (lib/engine/runtime/stateful.ts checks it).
   * @param w weight, of its shape, or a piece of it if elementwise
   * @param g its gradient after clipping, of the same shape
   * @param rates those of this step, and `shrink`: 1 - learning rate * weight decay, 1 for a weight that doesn't decay
   */
  update(
    w: tf.Tensor,
    g: tf.Tensor,
    state: Tensors<State>,
    rates: Tensors<Rate | "shrink">,
    weight: Weight,
  ): { w: tf.Tensor } & Partial<Tensors<State>>;
}
