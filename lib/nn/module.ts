// Building blocks of layers: scopes that name weights, and the linear layer.

import type { tf } from "../common/tf.ts";

import { linear } from "./linear.ts";
import { type Init, Parameter, type Role } from "./parameter.ts";

/** Creates and registers a layer's weights; `at("attn")` is the scope of a nested layer. */
export class Scope {
  readonly #prefix: string;
  readonly #all: Parameter[];

  constructor(all: Parameter[], prefix = "") {
    this.#all = all;
    this.#prefix = prefix;
  }

  at(name: string): Scope {
    return new Scope(this.#all, `${this.#prefix}${name}.`);
  }

  parameter(name: string, shape: readonly number[], init: Init, role: Role, splits?: readonly number[]): Parameter {
    const parameter = new Parameter(this.#prefix + name, shape, init, role, splits);
    this.#all.push(parameter);
    return parameter;
  }
}

export interface LinearOptions {
  deviation?: number; // of the random weights; GPT-2's 0.02 if not given
  role?: Role; // of the matrix; "hidden" if not given
  splits?: readonly number[]; // as in Parameter
}

/** Of projections that add to the residual stream: they start smaller, so that its variance doesn't grow with depth (GPT-2). */
export const residualDeviation = ({ n_layer }: { n_layer: number }) => 0.02 / Math.sqrt(2 * n_layer);

export class Linear {
  readonly weight: Parameter; // [C, D]: input by output, as in GPT-2
  readonly bias: Parameter | undefined; // [D]

  constructor(scope: Scope, C: number, D: number, bias: boolean, options: LinearOptions = {}) {
    const { deviation = 0.02, role = "hidden", splits } = options;
    this.weight = scope.parameter("weight", [C, D], { normal: deviation }, role, splits);
    this.bias = bias ? scope.parameter("bias", [D], { constant: 0 }, "bias") : undefined;
  }

  forward(x: tf.Tensor): tf.Tensor {
    return linear(x, this.weight.value, this.bias?.value);
  }
}
