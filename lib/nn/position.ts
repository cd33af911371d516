// Position encodings: the choices of `pos`. A choice has one or two of three effects: vectors added to the token embeddings, rotation of
// queries and keys, or a bias of the attention scores.

import { tf } from "../common/tf.ts";

import type { ModelConfig, PositionName } from "./choices.ts";
import { embedding } from "./embedding.ts";
import { withGradient } from "./fused.ts";
import type { Scope } from "./module.ts";
import type { Parameter } from "./parameter.ts";

/** The positions of T tokens, ascending: int32 [T], or the number T for 0 to T - 1. */
export type Positions = tf.Tensor | number;

export interface Position {
  /** Factor of the token embeddings; 1 if not given. */
  readonly scale?: number;
  /** Vectors added to the embeddings, [T, C]. */
  embed?(positions: Positions): tf.Tensor;
  /** Queries or keys [B, H, T, D] at `positions` -> rotated, the same shape. */
  turn?(x: tf.Tensor, positions: Positions): tf.Tensor;
  /** The cosines and sines of the rotation at each position of a context, [block_size, R / 2]. */
  turnTable?(): readonly [cos: tf.Tensor, sin: tf.Tensor];
  /** Distance of a key before the query, float [T, S] (negative: later, or missing) -> bias of its score, [H, T, S]. */
  bias?(distance: tf.Tensor): tf.Tensor;
}

export type PositionConfig = Pick<
  ModelConfig,
  "n_embd" | "n_head" | "block_size" | "rope_theta" | "rope_fraction" | "relative_buckets" | "relative_max_distance"
>;

/** Rows of a table [block_size, C] at `positions` -> [T, C]: a vector for each position, learned (Gehring et al. 2017; GPT-2). */
export function positionEmbedding({ value, shape }: Parameter, positions: Positions): tf.Tensor {
  if (typeof positions !== "number") return tf.gather(value, positions as tf.Tensor1D);
  return positions === shape[0] ? value : tf.slice(value, [0, 0], [positions, -1]);
}

/** Embedded tokens x [B, T, C], with what a position adds to them. */
export function addPositions(x: tf.Tensor, position: Position, positions: Positions): tf.Tensor {
  if (position.scale) x = tf.mul(x, position.scale);
  return position.embed ? tf.add(x, position.embed(positions)) : x;
}

/** Vaswani et al. 2017, section 3.5: sin(p / 10000^(2i / C)) at 2i, the cosine of the same at 2i + 1; and section 3.4: the
 * token embeddings, which are initially small, are multiplied by sqrt(C). */
export class Sinusoidal implements Position {
  readonly scale: number;
  readonly #C: number;

  constructor(_: Scope, { n_embd }: PositionConfig) {
    this.scale = Math.sqrt(n_embd);
    this.#C = n_embd;
  }

  embed(positions: Positions): tf.Tensor {
    const angle = angles(positions, this.#C, 10_000); // [T, C / 2]
    return tf.reshape(tf.stack([tf.sin(angle), tf.cos(angle)], 2), [-1, this.#C]);
  }
}

/** Rotary embeddings (Su et al. 2021, equation 34), in Llama's layout: of the first R channels of a head, which are rotated,
 * channel i is paired with channel i + R / 2. */
export class Rotary implements Position {
  readonly #R: number;
  readonly #theta: number;
  readonly #block_size: number;
  #table: readonly Float32Array[] | undefined; // shared by all layers of a program

  constructor(_: Scope, { n_embd, n_head, block_size, rope_theta, rope_fraction }: PositionConfig) {
    this.#R = 2 * Math.round((rope_fraction * n_embd) / n_head / 2);
    this.#theta = rope_theta;
    this.#block_size = block_size;
  }

  turn(x: tf.Tensor, positions: Positions): tf.Tensor {
    const angle = angles(positions, this.#R, this.#theta); // [T, R / 2]
    const [cos, sin] = [tf.cos(angle), tf.sin(angle)];
    const rest = x.shape[3]! - this.#R;
    if (rest === 0) return rotate(x, cos, sin);
    const [turned, still] = tf.split(x, [this.#R, rest], 3) as [tf.Tensor, tf.Tensor];
    return tf.concat([rotate(turned, cos, sin), still], 3);
  }

  turnTable(): [tf.Tensor, tf.Tensor] {
    const [T, half] = [this.#block_size, this.#R / 2];
    const angle = (i: number) => Math.floor(i / half) * this.#theta ** (-(i % half) / half);
    this.#table ??= [Math.cos, Math.sin].map((f) => Float32Array.from({ length: T * half }, (_, i) => f(angle(i))));
    return this.#table.map((data) => tf.tensor2d(data, [T, half])) as [tf.Tensor, tf.Tensor];
  }
}

/** Rotate x [B, H, T, R] by angles [T, R / 2], given as cosines and sines. */
function rotate(x: tf.Tensor, cos: tf.Tensor, sin: tf.Tensor): tf.Tensor {
  return withGradient([x], (x) => ({
    value: turned(x!, cos, sin),
    saved: [cos, sin],
    gradient: (dy, [cos, sin]) => [turned(dy, cos!, tf.neg(sin!))], // a rotation's transpose is its inverse
  }));
}

function turned(x: tf.Tensor, cos: tf.Tensor, sin: tf.Tensor): tf.Tensor {
  const [a, b] = tf.split(x, 2, 3) as [tf.Tensor, tf.Tensor];
  return tf.concat([tf.sub(tf.mul(a, cos), tf.mul(b, sin)), tf.add(tf.mul(b, cos), tf.mul(a, sin))], 3);
}

/** [T, C / 2]: position p times theta^(-2i / C). */
function angles(positions: Positions, C: number, theta: number): tf.Tensor {
  const frequencies = Float32Array.from({ length: C / 2 }, (_, i) => theta ** ((-2 * i) / C));
  const places = typeof positions === "number" ? tf.range(0, positions) : tf.cast(positions, "float32");
  return tf.mul(tf.reshape(places, [-1, 1]), tf.tensor2d(frequencies, [1, C / 2]));
}

/** Attention with linear biases (Press et al. 2022): a head's score decreases by its slope with each position of distance. */
export class Alibi implements Position {
  readonly #H: number;
  readonly #causal: boolean;

  constructor(_: Scope, { n_head }: PositionConfig, causal = true) {
    this.#H = n_head;
    this.#causal = causal;
  }

  bias(distance: tf.Tensor): tf.Tensor {
    const slopes = tf.tensor(alibiSlopes(this.#H), [this.#H, 1, 1]);
    const far = this.#causal ? distance : tf.abs(distance); // in both directions
    return tf.mul(slopes, tf.neg(tf.expandDims(far, 0)));
  }
}

/**
 * For a power of two 2^(-8 h / H), h from 1 to H. Else those of the next lower power, and every other one of the next
 * higher (the authors' code, github.com/ofirpress/attention_with_linear_biases).
 */
export function alibiSlopes(H: number): number[] {
  const lower = 2 ** Math.floor(Math.log2(H));
  const slopes = (n: number) => Array.from({ length: n }, (_, h) => 2 ** ((-8 * (h + 1)) / n));
  return [...slopes(lower), ...slopes(2 * lower).filter((_, i) => i % 2 === 0)].slice(0, H);
}

/** T5's relative positions (Raffel et al. 2020, section 2.1): a learned bias for each bucket of distances and head, shared by all
 * layers. */
export class Relative implements Position {
  readonly table: Parameter; // [buckets, H]
  readonly #most: number;
  readonly #causal: boolean;

  constructor(scope: Scope, { n_head, relative_buckets, relative_max_distance }: PositionConfig, causal = true) {
    this.#causal = causal;
    this.table = scope.at("relative").parameter("weight", [relative_buckets, n_head], { normal: 0.02 }, "embedding");
    this.#most = relative_max_distance;
  }

  bias(distance: tf.Tensor): tf.Tensor {
    const [T, S] = distance.shape as [number, number];
    const buckets = (this.#causal ? bucketOf : bucketBothWays)(distance, this.table.shape[0]!, this.#most);
    const bias = embedding(this.table.value, tf.reshape(buckets, [T * S])); // [T * S, H]
    return tf.reshape(tf.transpose(bias), [-1, T, S]);
  }
}

/** Distances [...] -> int32 buckets: those below half of the buckets have one each, the others share logarithmic buckets up to `most`;
 * negative ones count as 0. */
export function bucketOf(distance: tf.Tensor, buckets: number, most: number): tf.Tensor {
  const near = buckets >> 1;
  const d = tf.maximum(distance, 0);
  const log = tf.div(tf.log(tf.maximum(tf.div(d, near), 1)), Math.log(most / near));
  const far = tf.minimum(tf.add(tf.floor(tf.mul(log, buckets - near)), near), buckets - 1);
  return tf.cast(tf.where(tf.less(d, near), d, far), "int32");
}

/** The same in both directions: the first half of the buckets is for earlier keys, the second for later ones. */
function bucketBothWays(distance: tf.Tensor, buckets: number, most: number): tf.Tensor {
  const half = Math.floor(buckets / 2);
  const after = tf.mul(tf.cast(tf.less(distance, 0), "int32"), tf.scalar(half, "int32"));
  return tf.add(bucketOf(tf.abs(distance), half, most), after);
}

/** None: a causal model can infer positions from the number of visible tokens (Haviv et al. 2022). */
class None implements Position {}

/** A class for each value of `pos`; `causal`: are all keys earlier ones? */
export const positions: Record<PositionName, new (scope: Scope, config: PositionConfig, causal?: boolean) => Position> =
  {
    learned: None, // model.ts adds its wpe to the tokens
    sinusoidal: Sinusoidal,
    rotary: Rotary,
    alibi: Alibi,
    relative: Relative,
    none: None,
  };
