// How a block puts its sublayers together: each adds something to x, after a norm (GPT-2), with a norm of the sum, or between two
// norms; one after the other, or side by side.

import { tf } from "../common/tf.ts";

import type { ModelConfig } from "./choices.ts";
import { type DropoutRng, dropLayer } from "./dropout.ts";
import type { Scope } from "./module.ts";
import { newNorm } from "./norm.ts";
import type { Norm, Textbook } from "./textbook.ts";

/** From x [B, T, C] to what is added to it, of the same shape. */
export type Sublayer = (x: tf.Tensor) => tf.Tensor;

/** The residual branch around one sublayer of a block: its norms, and how often it is left out. */
export class Residual {
  readonly norm: Norm;
  readonly post: Norm | undefined; // behind the sublayer, of a sandwich
  readonly #position: string;
  readonly #skip: number;

  /**
   * @param name of the norm
   * @param skip chance that a sequence does without the sublayer, in training
   */
  constructor(scope: Scope, name: string, config: ModelConfig, skip: number, textbook: Textbook) {
    this.#position = config.norm_position;
    this.#skip = skip;
    this.norm = newNorm(scope.at(name), config, textbook);
    if (this.#position === "sandwich") this.post = newNorm(scope.at(`${name}_post`), config, textbook);
  }

  /** [B, T, C] -> [B, T, C] */
  forward(x: tf.Tensor, sublayer: Sublayer, rng: DropoutRng | undefined): tf.Tensor {
    if (this.#position === "post") return this.norm.forward(tf.add(x, this.branch(x, sublayer, rng))); // Vaswani et al. 2017
    const branch = this.branch(this.norm.forward(x), sublayer, rng); // GPT-2
    return tf.add(x, this.post ? this.post.forward(branch) : branch); // Gemma 2
  }

  /** What the sublayer makes of x, or nothing, in some sequences of a batch in training. */
  branch(x: tf.Tensor, sublayer: Sublayer, rng: DropoutRng | undefined): tf.Tensor {
    return dropLayer(sublayer(x), this.#skip, rng);
  }
}

/** Two sublayers side by side, each with its own norm (GPT-NeoX) or both with the first one (GPT-J). */
export function parallel(
  x: tf.Tensor,
  [first, attn]: [Residual, Sublayer],
  [second, mlp]: [Residual | undefined, Sublayer],
  rng: DropoutRng | undefined,
): tf.Tensor {
  const normal = first.norm.forward(x);
  const sum = tf.add(x, first.branch(normal, attn, rng));
  return tf.add(sum, (second ?? first).branch(second ? second.norm.forward(x) : normal, mlp, rng));
}
