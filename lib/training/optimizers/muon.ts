// Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): the momentum of each matrix of a hidden layer, made nearly
// orthogonal, is its update. Everything else (embeddings, the output layer, norms, biases) is AdamW's.
//
// One learning rate serves both: the update is scaled to the size that AdamW's usually has, 0.2 as a root mean square (Liu
// et al. 2025, "Muon is scalable for LLM training", equation 4; PyTorch's adjust_lr_fn="match_rms_adamw"). Unlike the
// first factor that was published, max(1, rows / columns)^0.5, it does not ask which of the two is the input.

import * as tf from "@tensorflow/tfjs";

import type { Shape } from "../../engine/graph.ts";
import type { Engine, Program, Variable } from "../../engine/runtime/program.ts";
import { AdamW, type AdamWOptions, type Groups, type Optimizer, type StateTensor } from "./adamw.ts";
import { measureGradient } from "./gradient.ts";

export interface MuonOptions extends AdamWOptions {
  momentum: number;
}

const RMS = 0.2;
const STEPS = 5;
const [A, B, C] = [3.4445, -4.775, 2.0315]; // Jordan's: the steepest at 0 that bring every singular value to about 1
const EPSILON = 1e-7; // the norm of a matrix that is as good as 0

interface State {
  variable: Variable;
  weightDecay: number;
  average: Float32Array; // of the gradient
  parts: readonly number[]; // widths of the column blocks that are matrices of their own
  program: Program<"momentum">;
}

export class Muon implements Optimizer {
  readonly #options: MuonOptions;
  readonly #variables: readonly Variable[];
  readonly #states: State[];
  readonly #adamw: AdamW;
  readonly #scratch: Float32Array; // for the update of one variable

  private constructor(groups: Groups, options: MuonOptions, states: State[]) {
    this.#options = options;
    this.#states = states;
    this.#variables = [...groups.decay, ...groups.noDecay];
    const rest = (variables: readonly Variable[]) => variables.filter((variable) => !isHiddenMatrix(variable));
    this.#adamw = new AdamW({ decay: rest(groups.decay), noDecay: rest(groups.noDecay) }, options);
    this.#scratch = new Float32Array(Math.max(0, ...states.map(({ average }) => average.length)));
  }

  /** @param engine runs the matrix products: one program for each shape of a matrix */
  static async create(groups: Groups, options: MuonOptions, engine: Engine): Promise<Muon> {
    const programs = new Map<string, Program<"momentum">>();
    const states: State[] = [];
    for (const variable of [...groups.decay, ...groups.noDecay]) {
      if (!isHiddenMatrix(variable)) continue;
      const { shape, data } = variable;
      const parts = columnParts(variable);
      const key = `${shape} ${parts}`;
      const program = programs.get(key) ?? (await orthogonalizer(engine, shape, parts));
      programs.set(key, program);
      const weightDecay = groups.decay.includes(variable) ? options.weight_decay : 0;
      states.push({ variable, weightDecay, average: new Float32Array(data.length), parts, program });
    }
    return new Muon(groups, options, states);
  }

  get steps(): number {
    return this.#adamw.steps;
  }

  set steps(steps: number) {
    this.#adamw.steps = steps;
  }

  async step(learningRate: number, gradScale = 1): Promise<number> {
    const { norm, scale } = await measureGradient(this.#variables, gradScale, this.#options.grad_clip);
    if (!Number.isFinite(norm)) return norm;
    await this.#adamw.update(learningRate, scale);
    for (const { variable, weightDecay, average, parts, program } of this.#states) {
      const momentum = this.#scratch.subarray(0, average.length);
      nesterov(momentum, variable.grad!, average, scale, this.#options.momentum);
      const update = await program.run({ momentum });
      addUpdate(variable, update, parts, 1 - learningRate * weightDecay, learningRate);
    }
    return norm;
  }

  /** The averages, and AdamW's state for the rest. */
  tensors(): StateTensor[] {
    const averages = this.#states.map(({ variable: { name, shape }, average }) => {
      return { name: `optimizer.momentum_buffer.${name}`, shape, data: average };
    });
    return [...averages, ...this.#adamw.tensors()];
  }
}

/** Is it the matrix of a layer in a block, or a stack of them (experts, whose names end without ".weight")? */
export function isHiddenMatrix({ name, shape }: Pick<Variable, "name" | "shape">): boolean {
  return shape.length >= 2 && /(^|\.)h\.\d+\..*\.c_\w+(\.weight)?$/.test(name);
}

/**
 * The widths of the column blocks of a weight that are orthogonalized each by itself. c_attn packs three matrices, for
 * queries [C, C], keys and values [C, D] each (D below C with fewer heads of keys), which happen to share their input;
 * Jordan found Muon better on the three than on the whole. c_kv packs the last two. Any other weight is one matrix.
 */
export function columnParts({ name, shape }: Pick<Variable, "name" | "shape">): readonly number[] {
  const [rows, columns] = shape.slice(-2) as [number, number];
  if (/\.c_kv\.weight$/.test(name)) return [columns / 2, columns / 2];
  const rest = columns - rows;
  return /\.c_attn\.weight$/.test(name) && rest > 0 && rest % 2 === 0 ? [rows, rest / 2, rest / 2] : [columns];
}

/** average <- momentum average + (1 - momentum) g; out = (1 - momentum) g + momentum average (Nesterov 1983, as PyTorch). */
function nesterov(out: Float32Array, grad: Float32Array, average: Float32Array, scale: number, momentum: number): void {
  const fresh = 1 - momentum;
  for (let i = 0; i < out.length; i++) {
    const g = fresh * scale * grad[i]!;
    const m = momentum * average[i]! + g;
    average[i] = m;
    out[i] = g + momentum * m;
  }
}

/** w <- shrink w - rate * 0.2 sqrt(max(rows, columns)) update, in each part with its own columns. */
function addUpdate(
  { data, shape }: Variable,
  update: Float32Array,
  parts: readonly number[],
  shrink: number,
  rate: number,
): void {
  const [rows, columns] = shape.slice(-2) as [number, number];
  let from = 0;
  for (const width of parts) {
    const factor = rate * RMS * Math.sqrt(Math.max(rows, width));
    for (let start = from; start < data.length; start += columns) {
      for (let i = start; i < start + width; i++) data[i] = shrink * data[i]! - factor * update[i]!;
    }
    from += width;
  }
}

/** A program that makes each part of a `momentum` [..., rows, columns] nearly orthogonal. */
export function orthogonalizer(engine: Engine, shape: Shape, parts: readonly number[]): Promise<Program<"momentum">> {
  const inputs = { momentum: { shape, dtype: "float32" } } as const;
  const body = ({ momentum }: { momentum: tf.Tensor }) => {
    if (parts.length === 1) return newtonSchulz(momentum);
    return tf.concat(tf.split(momentum, [...parts], -1).map(newtonSchulz), -1);
  };
  return engine.program(body, { variables: [], inputs });
}

/**
 * The orthogonal matrix next to x, roughly: x = U S V^T becomes U S' V^T, with singular values S' about 1 (0.7 to 1.2). With
 * x / |x| for a start, five times x <- a x + (b G + c G^2) x for the smaller Gram matrix G = x x^T, or from the right.
 * @param x [..., rows, columns], matrices
 */
function newtonSchulz(x: tf.Tensor): tf.Tensor {
  const [rows, columns] = x.shape.slice(-2) as [number, number];
  const length = tf.sqrt(tf.sum(tf.square(x), [-2, -1], true));
  let result = tf.div(x, tf.maximum(length, EPSILON));
  for (let step = 0; step < STEPS; step++) {
    const tall = rows > columns;
    const gram = tf.matMul(result, result, tall, !tall);
    const polynomial = tf.add(tf.mul(gram, B), tf.mul(tf.matMul(gram, gram), C));
    const change = tall ? tf.matMul(result, polynomial) : tf.matMul(polynomial, result);
    result = tf.add(tf.mul(result, A), change);
  }
  return result;
}

/** The same for one matrix, one number at a time and in double precision: what the program is tested against. */
export function newtonSchulzPlain(x: ArrayLike<number>, rows: number, columns: number): Float64Array {
  let result = Float64Array.from(x);
  const length = Math.max(EPSILON, Math.hypot(...result));
  result = result.map((number) => number / length);
  for (let step = 0; step < STEPS; step++) {
    const gram = new Float64Array(rows * rows);
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < rows; j++) {
        for (let c = 0; c < columns; c++) gram[i * rows + j]! += result[i * columns + c]! * result[j * columns + c]!;
      }
    }
    const polynomial = gram.map((number) => B * number);
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < rows; j++) {
        for (let k = 0; k < rows; k++) polynomial[i * rows + j]! += C * gram[i * rows + k]! * gram[k * rows + j]!;
      }
    }
    const next = result.map((number) => A * number);
    for (let i = 0; i < rows; i++) {
      for (let k = 0; k < rows; k++) {
        for (let c = 0; c < columns; c++)
          next[i * columns + c]! += polynomial[i * rows + k]! * result[k * columns + c]!;
      }
    }
    result = next;
  }
  return result;
}
