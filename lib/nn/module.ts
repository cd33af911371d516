// What layers are built from: names for their weights, and the linear layer.

import type * as tf from "@tensorflow/tfjs";

import { linear } from "./linear.ts";
import { type Init, Parameter } from "./parameter.ts";

/** Makes a layer's weights and notes them down; `at("attn")` is the same for a layer inside, with a longer name. */
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

  parameter(name: string, shape: number[], init: Init): Parameter {
    const parameter = new Parameter(this.#prefix + name, shape, init);
    this.#all.push(parameter);
    return parameter;
  }
}

export class Linear {
  readonly weight: Parameter; // [C, D]: input by output, as GPT-2 keeps it
  readonly bias: Parameter | undefined; // [D]

  constructor(scope: Scope, C: number, D: number, bias: boolean, deviation = 0.02) {
    this.weight = scope.parameter("weight", [C, D], { normal: deviation });
    this.bias = bias ? scope.parameter("bias", [D], { constant: 0 }) : undefined;
  }

  forward(x: tf.Tensor): tf.Tensor {
    return linear(x, this.weight.value, this.bias?.value);
  }
}
