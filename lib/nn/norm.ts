// The choices of `norm`: model.ts' LayerNorm, or RMSNorm.

import type { tf } from "../common/tf.ts";

import type { ModelConfig, NormName } from "./choices.ts";
import type { Scope } from "./module.ts";
import type { Parameter } from "./parameter.ts";
import { rmsNorm } from "./rms_norm.ts";
import type { NewNorm, Norm, TextbookLayers } from "./textbook.ts";

/** Without a bias. */
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

/** A class for each value of `norm`. */
export const norms: Record<NormName, (textbook: TextbookLayers) => NewNorm> = {
  layernorm: ({ LayerNorm }) => LayerNorm,
  rmsnorm: () => RMSNorm,
};

/** Over all channels. */
export const newNorm = (scope: Scope, { norm, n_embd, bias, norm_eps }: ModelConfig, textbook: TextbookLayers): Norm =>
  new (norms[norm](textbook))(scope, n_embd, bias, norm_eps);
