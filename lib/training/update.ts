// The update of all weights, whatever the optimizer: the gradient's norm, clipping, weight decay, the optimizer's
// formulas and the EMA of the weights. Two programs over the arrays that hold weights, gradients and state: the norm is checked
// in between, because a gradient that isn't finite would ruin every weight.

import { tf } from "../common/tf.ts";

import type { Engine } from "../engine/runtime/program.ts";
import type { StateArray, StatefulProgram } from "../engine/runtime/stateful.ts";
import type { WeightAverage } from "./ema.ts";
import type { Groups, Optimizer, StateTensor, Trained, Weight } from "./optimizers/optimizer.ts";

export interface UpdateOptions {
  weight_decay: number; // for the weights of the group `decay` only
  grad_clip: number; // the global gradient norm is clipped to this; 0 for no limit
  ema?: WeightAverage | undefined;
}

const ROW = 1024; // numbers whose squares are added up in float32; the rest of the sum is in double precision
const PIECE = 2 ** 20; // numbers of a large weight that are updated at once: intermediate results need that much memory

export class Update {
  /** Updates made so far. */
  steps = 0;
  readonly #optimizer: Optimizer;
  readonly #options: UpdateOptions;
  readonly #tensors: StateTensor[];
  readonly #norm: StatefulProgram;
  readonly #update: StatefulProgram;

  private constructor(
    optimizer: Optimizer,
    options: UpdateOptions,
    tensors: StateTensor[],
    norm: StatefulProgram,
    update: StatefulProgram,
  ) {
    this.#optimizer = optimizer;
    this.#options = options;
    this.#tensors = tensors;
    this.#norm = norm;
    this.#update = update;
  }

  /** Compile it for these weights, whose gradients must have arrays. The state starts as zeros. */
  static async create(engine: Engine, { decay, noDecay }: Groups, optimizer: Optimizer, options: UpdateOptions) {
    const weights = [...decay, ...noDecay];
    const tensors = weights.map((weight) => optimizerState(optimizer, weight));
    const averages = new Map(options.ema?.arrays());
    const arrays: StateArray[] = []; // pieces of everything the update reads and writes
    const parts: { at: string; weight: Trained; decays: boolean; state: string[] }[] = [];
    for (const [i, weight] of weights.entries()) {
      const { shape, data, grad } = weight;
      const state = tensors[i]!;
      const average = averages.get(weight.name);
      const all = [{ key: "w", shape, data }, { key: "g", shape, data: grad! }, ...state];
      if (average) all.push({ key: "average", shape, data: average });
      const cut = optimizer.elementwise(weight) ? pieces(data.length, PIECE) : [undefined];
      for (const [j, piece] of cut.entries()) {
        const at = `${i}.${j}.`;
        parts.push({ at, weight, decays: i < decay.length, state: state.map(({ key }) => key) });
        for (const { key, shape, data } of all) {
          arrays.push(
            piece ? { name: at + key, shape: piece.shape, data: piece.of(data) } : { name: at + key, shape, data },
          );
        }
      }
    }
    const numbers = ["scale", "shrink", "fresh_average", ...Object.keys(optimizer.rates(1, 0))];
    const update = await engine.stateful(
      (tensors, { scale, ...rates }) => {
        const next: Record<string, tf.Tensor> = {};
        for (const { at, weight, decays, state } of parts) {
          const get = (key: string) => tensors[at + key]!;
          const shrink = decays ? rates.shrink! : tf.scalar(1);
          const old = Object.fromEntries(state.map((key) => [key, get(key)]));
          const made = optimizer.update(get("w"), tf.mul(get("g"), scale!), old, { ...rates, shrink }, weight);
          for (const [key, tensor] of Object.entries(made)) next[at + key] = tensor!;
          if (!averages.has(weight.name)) continue;
          next[`${at}average`] = tf.add(get("average"), tf.mul(tf.sub(made.w, get("average")), rates.fresh_average!));
        }
        return next;
      },
      { state: arrays, numbers },
    );
    const norm = await normProgram(engine, weights);
    return new Update(optimizer, options, tensors.flat(), norm, update);
  }

  /**
   * Update every weight from its `grad` times `gradScale` (1 over the number of gradients that were added up, and over the loss
   * scale). If a gradient isn't finite, nothing changes.
   * @returns the global gradient norm before clipping
   */
  async run(learningRate: number, gradScale = 1): Promise<number> {
    const { weight_decay, grad_clip, ema } = this.#options;
    const { squares } = await this.#norm.run({});
    const norm = Math.sqrt(squares!.reduce((sum, square) => sum + square, 0)) * gradScale;
    if (!Number.isFinite(norm)) return norm;
    const clip = grad_clip > 0 ? Math.min(1, grad_clip / (norm + 1e-6)) : 1; // as PyTorch's clip_grad_norm_
    this.steps++;
    await this.#update.run({
      ...this.#optimizer.rates(this.steps, learningRate),
      scale: gradScale * clip,
      shrink: 1 - learningRate * weight_decay,
      fresh_average: ema ? ema.advance() : 0,
    });
    return norm;
  }

  /** The optimizer's state, by its names in a checkpoint; to restore one, fill the arrays and set `steps`. */
  tensors(): readonly StateTensor[] {
    return this.#tensors;
  }

  async dispose(): Promise<void> {
    await Promise.all([this.#norm.dispose(), this.#update.dispose()]);
  }
}

/** An optimizer's state of a weight before the first step. */
export function optimizerState(optimizer: Optimizer, weight: Weight): (StateTensor & { key: string })[] {
  return Object.entries(optimizer.state(weight)).map(([key, shape]) => {
    const data = new Float32Array(tf.util.sizeFromShape([...shape!]));
    return { key, name: `optimizer.${key}.${weight.name}`, shape: shape!, data };
  });
}

/** Computes `squares`, the sums of the gradients' squares: one for each row of a piece. */
function normProgram(engine: Engine, weights: readonly Trained[]): Promise<StatefulProgram> {
  const state = weights.flatMap(({ grad }, i) =>
    pieces(grad!.length, PIECE).map(({ shape, of }, j) => ({ name: `${i}.${j}`, shape, data: of(grad!) })),
  );
  const body = (gradients: Record<string, tf.Tensor>) => ({
    squares: tf.concat(Object.values(gradients).map((g) => tf.reshape(tf.sum(tf.square(g), -1), [-1]))),
  });
  return engine.stateful(body, { state, numbers: [] });
}

/** Cut an array of this length into views of `size` numbers at most, shaped as rows of ROW; the remainder is one row. */
function pieces(length: number, size: number): { shape: number[]; of(array: Float32Array): Float32Array }[] {
  const whole = length - (length % ROW);
  const cut: { shape: number[]; of(array: Float32Array): Float32Array }[] = [];
  const add = (from: number, to: number, shape: number[]) =>
    cut.push({ shape, of: (array) => array.subarray(from, to) });
  for (let from = 0; from < whole; from += size) {
    const to = Math.min(whole, from + size);
    add(from, to, [(to - from) / ROW, ROW]);
  }
  if (whole < length) add(whole, length, [1, length - whole]);
  return cut;
}
