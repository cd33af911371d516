// What `norm` may be.

import type * as tf from "@tensorflow/tfjs";

import { layerNorm } from "./layer_norm.ts";
import type { Scope } from "./module.ts";
import type { Parameter } from "./parameter.ts";
import { rmsNorm } from "./rms_norm.ts";

export class LayerNorm {
  readonly weight: Parameter; // [C]
  readonly bias: Parameter | undefined; // [C]
  readonly epsilon: number;

  constructor(scope: Scope, C: number, bias: boolean, epsilon: number) {
    this.weight = scope.parameter("weight", [C], { constant: 1 }, "norm");
    this.bias = bias ? scope.parameter("bias", [C], { constant: 0 }, "bias") : undefined;
    this.epsilon = epsilon;
  }

  /** [..., C] -> [..., C] */
  forward(x: tf.Tensor): tf.Tensor {
    return layerNorm(x, this.weight.value, this.bias?.value, this.epsilon);
  }
}

/** Never has a bias. */
export class RMSNorm {
  readonly weight: Parameter; // [C]
  readonly epsilon: number;

  constructor(scope: Scope, C: number, _bias: boolean, epsilon: number) {
    this.weight = scope.parameter("weight", [C], { constant: 1 }, "norm");
    this.epsilon = epsilon;
  }

  /** [..., C] -> [..., C] */
  forward(x: tf.Tensor): tf.Tensor {
    return rmsNorm(x, this.weight.value, this.epsilon);
  }
}

export type Norm = LayerNorm | RMSNorm;

export const norms: Record<string, new (scope: Scope, C: number, bias: boolean, epsilon: number) => Norm> = {
  layernorm: LayerNorm,
  rmsnorm: RMSNorm,
};

export interface NormConfig {
  norm: string; // one of `norms`
  n_embd: number;
  bias: boolean;
  norm_eps: number;
}

/** Of all channels. */
export const newNorm = (scope: Scope, { norm, n_embd, bias, norm_eps }: NormConfig) =>
  new norms[norm]!(scope, n_embd, bias, norm_eps);
