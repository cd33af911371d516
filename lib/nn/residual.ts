// How a block puts its parts together: each adds something to x, after a norm (GPT-2), with a norm of the sum, or between two
// norms; one after the other, or side by side.

import * as tf from "@tensorflow/tfjs";

import { dropLayer, type MaskSource } from "./dropout.ts";
import type { Scope } from "./module.ts";
import { type Norm, type NormConfig, newNorm } from "./norm.ts";

/** From x [B, T, C] to what is added to it, of the same shape. */
export type Part = (x: tf.Tensor) => tf.Tensor;

/** Where the norms of a part stand: what `norm_position` may be. */
export const normPositions = ["pre", "post", "sandwich"] as const;

/** What belongs to one part of a block: its norms, and how often it is left out. */
export class Residual {
  readonly norm: Norm;
  readonly post: Norm | undefined; // behind the part, of a sandwich
  readonly #position: string;
  readonly #skip: number;

  /**
   * @param name of the norm
   * @param skip chance that a sequence does without the part, in training
   */
  constructor(scope: Scope, name: string, config: NormConfig & { norm_position: string }, skip: number) {
    this.#position = config.norm_position;
    this.#skip = skip;
    this.norm = newNorm(scope.at(name), config);
    if (this.#position === "sandwich") this.post = newNorm(scope.at(`${name}_post`), config);
  }

  /** [B, T, C] -> [B, T, C] */
  forward(x: tf.Tensor, part: Part, mask: MaskSource | undefined): tf.Tensor {
    if (this.#position === "post") return this.norm.forward(tf.add(x, this.made(x, part, mask))); // Vaswani et al. 2017
    const made = this.made(this.norm.forward(x), part, mask); // GPT-2
    return tf.add(x, this.post ? this.post.forward(made) : made); // Gemma 2
  }

  /** What the part makes of x, or nothing, in some sequences of a batch in training. */
  made(x: tf.Tensor, part: Part, mask: MaskSource | undefined): tf.Tensor {
    return dropLayer(part(x), this.#skip, mask);
  }
}

/** Two parts side by side, each with a norm of its own (GPT-NeoX) or both with the first one (GPT-J). */
export function sideBySide(
  x: tf.Tensor,
  [first, attend]: [Residual, Part],
  [second, think]: [Residual | undefined, Part],
  mask: MaskSource | undefined,
): tf.Tensor {
  const normal = first.norm.forward(x);
  const sum = tf.add(x, first.made(normal, attend, mask));
  return tf.add(sum, (second ?? first).made(second ? second.norm.forward(x) : normal, think, mask));
}
