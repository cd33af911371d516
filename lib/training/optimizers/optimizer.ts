// What an optimizer is: formulas over tensors, in plain tfjs, independent of the engine that runs them. Each choice is a file
// beside this one; lib/training/update.ts turns one into a program over all weights of a model, with what all of them share:
// clipping by the global norm, weight decay's factor, the EMA of the weights.

import type { tf } from "../../common/tf.ts";

import type { Shape } from "../../engine/graph.ts";
import type { Variable } from "../../engine/runtime/program.ts";
import type { Parameter } from "../../nn/parameter.ts";

/** What an optimizer may know of a weight besides its numbers. */
export type Weight = Pick<Parameter, "name" | "shape" | "role" | "splits">;

/** A weight that is trained. */
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

/** @typeParam State names of the state tensors, by which a checkpoint keeps them @typeParam Rate names of the rates */
export interface Optimizer<State extends string = string, Rate extends string = string> {
  /** Shapes of a weight's state, which starts as zeros. */
  state(weight: Weight): Partial<Record<State, Shape>>;
  /** The numbers that change from step to step. @param step counted from 1 */
  rates(step: number, learningRate: number): Record<Rate, number>;
  /** Does each new number depend on the old ones in its place alone? Then a large weight may be updated in pieces. */
  elementwise(weight: Weight): boolean;
  /**
   * One step of one weight: its new numbers and its new state. Both are written over the old ones, so whatever reads an old
   * tensor has to come before its new numbers (lib/engine/runtime/stateful.ts checks it).
   * @param w weight, of its shape, or a piece of it if elementwise
   * @param g its gradient after clipping, of the same shape
   * @param rates those of this step, and `shrink`: 1 - learning rate * weight decay, which is 1 for a weight that doesn't decay
   */
  update(
    w: tf.Tensor,
    g: tf.Tensor,
    state: Tensors<State>,
    rates: Tensors<Rate | "shrink">,
    weight: Weight,
  ): { w: tf.Tensor } & Partial<Tensors<State>>;
}
