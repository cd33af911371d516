// The slow, obvious twin of every optimizer: the papers' formulas, one number at a time and in double precision. Weight decay is
// apart from the gradient in all of them: w <- w - rate decay w, then the step.

import type { OptimizerOptions } from "../../../../lib/training/optimizers/create.ts";
import { isHiddenMatrix } from "../../../../lib/training/optimizers/muon.ts";
import type { Weight } from "../../../../lib/training/optimizers/optimizer.ts";

/** A weight with its numbers, and its state by name. */
export interface PlainWeight extends Weight {
  w: Float64Array;
  state: Record<string, Float64Array>;
}

/** One step of one weight, from its clipped gradient. `decay` is the weight decay. @param t counts from 1 */
type PlainStep = (weight: PlainWeight, g: Float64Array, t: number, rate: number, decay: number) => void;

const zeros = (weight: PlainWeight, name: string, size = weight.w.length) => {
  weight.state[name] ??= new Float64Array(size);
  return weight.state[name];
};

export const plain: Record<"adamw" | "lion" | "muon" | "adafactor" | "sgd", (options: OptimizerOptions) => PlainStep> =
  {
    // Loshchilov and Hutter 2019, algorithm 2
    adamw:
      ({ beta1, beta2, epsilon = 1e-8 }) =>
      (weight, g, t, rate, decay) => {
        const { w } = weight;
        const [m, v] = [zeros(weight, "exp_avg"), zeros(weight, "exp_avg_sq")];
        for (let i = 0; i < w.length; i++) {
          m[i] = beta1 * m[i]! + (1 - beta1) * g[i]!;
          v[i] = beta2 * v[i]! + (1 - beta2) * g[i]! ** 2;
          const [mHat, vHat] = [m[i]! / (1 - beta1 ** t), v[i]! / (1 - beta2 ** t)];
          w[i] = w[i]! - rate * decay * w[i]! - (rate * mHat) / (Math.sqrt(vHat) + epsilon);
        }
      },

    // Chen et al. 2023, algorithm 2
    lion:
      ({ beta1, beta2 }) =>
      (weight, g, _, rate, decay) => {
        const { w } = weight;
        const m = zeros(weight, "exp_avg");
        for (let i = 0; i < w.length; i++) {
          const direction = Math.sign(beta1 * m[i]! + (1 - beta1) * g[i]!);
          w[i] = w[i]! - rate * decay * w[i]! - rate * direction;
          m[i] = beta2 * m[i]! + (1 - beta2) * g[i]!;
        }
      },

    // Jordan et al. 2024, with the scale of Liu et al. 2025; AdamW for all that is no hidden matrix
    muon: (options) => {
      const { momentum } = options;
      const adamw = plain.adamw(options);
      return (weight, g, t, rate, decay) => {
        if (!isHiddenMatrix(weight)) return adamw(weight, g, t, rate, decay);
        const { w, shape, splits } = weight;
        const m = zeros(weight, "momentum_buffer");
        const ahead = new Float64Array(w.length);
        for (let i = 0; i < w.length; i++) {
          m[i] = momentum * m[i]! + (1 - momentum) * g[i]!;
          ahead[i] = momentum * m[i]! + (1 - momentum) * g[i]!;
        }
        const [rows, columns] = shape.slice(-2) as [number, number];
        for (let start = 0; start < w.length; start += rows * columns) {
          let from = 0;
          for (const width of splits) {
            const place = (i: number) => start + Math.floor(i / width) * columns + from + (i % width);
            const part = Float64Array.from({ length: rows * width }, (_, i) => ahead[place(i)]!);
            const update = newtonSchulzPlain(part, rows, width);
            for (const [i, number] of update.entries()) {
              const old = w[place(i)]!;
              w[place(i)] = old - rate * decay * old - rate * 0.2 * Math.sqrt(Math.max(rows, width)) * number;
            }
            from += width;
          }
        }
      };
    },

    // Shazeer and Stern 2018, algorithms 4 and 6, with PyTorch's constants
    adafactor: () => (weight, g, t, rate, decay) => {
      const { w, shape } = weight;
      const [epsilon1, epsilon2] = [2 ** -23, 1e-3];
      const fresh = t ** -0.8;
      const square = (sum: number, x: number) => sum + x * x;
      const size = Math.max(epsilon2, Math.sqrt(w.reduce(square, 0) / w.length));
      const root = new Float64Array(w.length); // of the estimate of g^2
      if (shape.length < 2) {
        const v = zeros(weight, "variance");
        for (let i = 0; i < w.length; i++) {
          v[i] = (1 - fresh) * v[i]! + fresh * g[i]! ** 2;
          root[i] = Math.sqrt(v[i]!);
        }
      } else {
        const [R, C] = shape.slice(-2) as [number, number];
        const count = w.length / (R * C);
        const [rows, columns] = [zeros(weight, "row_var", count * R), zeros(weight, "col_var", count * C)];
        for (let n = 0; n < count; n++) {
          const at = (r: number, c: number) => (n * R + r) * C + c;
          for (let r = 0; r < R; r++) {
            let mean = 0;
            for (let c = 0; c < C; c++) mean += g[at(r, c)]! ** 2 / C;
            rows[n * R + r] = (1 - fresh) * rows[n * R + r]! + fresh * mean;
          }
          for (let c = 0; c < C; c++) {
            let mean = 0;
            for (let r = 0; r < R; r++) mean += g[at(r, c)]! ** 2 / R;
            columns[n * C + c] = (1 - fresh) * columns[n * C + c]! + fresh * mean;
          }
          const mean = rows.subarray(n * R, (n + 1) * R).reduce((sum, row) => sum + row / R, 0);
          for (let r = 0; r < R; r++) {
            for (let c = 0; c < C; c++) {
              root[at(r, c)] = Math.sqrt((rows[n * R + r]! * columns[n * C + c]!) / Math.max(mean, epsilon1));
            }
          }
        }
      }
      const update = g.map((number, i) => number / Math.max(epsilon1, root[i]!));
      const rms = Math.sqrt(update.reduce(square, 0) / w.length);
      const move = (Math.min(rate, 1 / Math.sqrt(t)) * size) / Math.max(1, rms);
      for (let i = 0; i < w.length; i++) w[i] = w[i]! - rate * decay * w[i]! - move * update[i]!;
    },

    // Polyak 1964, as PyTorch has it
    sgd:
      ({ momentum }) =>
      (weight, g, _, rate, decay) => {
        const { w } = weight;
        const v = zeros(weight, "momentum_buffer");
        for (let i = 0; i < w.length; i++) {
          v[i] = momentum * v[i]! + g[i]!;
          w[i] = w[i]! - rate * decay * w[i]! - rate * v[i]!;
        }
      },
  };

/** Muon's iteration for one matrix [rows, columns]. */
export function newtonSchulzPlain(x: ArrayLike<number>, rows: number, columns: number): Float64Array {
  const [a, b, c] = [3.4445, -4.775, 2.0315];
  let result = Float64Array.from(x);
  const length = Math.max(1e-7, Math.hypot(...result));
  result = result.map((number) => number / length);
  for (let step = 0; step < 5; step++) {
    const gram = new Float64Array(rows * rows);
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < rows; j++) {
        for (let k = 0; k < columns; k++) gram[i * rows + j]! += result[i * columns + k]! * result[j * columns + k]!;
      }
    }
    const polynomial = gram.map((number) => b * number);
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < rows; j++) {
        for (let k = 0; k < rows; k++) polynomial[i * rows + j]! += c * gram[i * rows + k]! * gram[k * rows + j]!;
      }
    }
    const next = result.map((number) => a * number);
    for (let i = 0; i < rows; i++) {
      for (let k = 0; k < rows; k++) {
        for (let j = 0; j < columns; j++)
          next[i * columns + j]! += polynomial[i * rows + k]! * result[k * columns + j]!;
      }
    }
    result = next;
  }
  return result;
}
