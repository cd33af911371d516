// Adafactor (Shazeer and Stern 2018), in the form that PyTorch gives it: of a matrix' squared gradients only an average a
// row and a column are kept, so the state is next to nothing. Steps are relative to the size of what they change.
// Left out, as in PyTorch: the paper's optional first moment.

import { breathe } from "../../common/breathe.ts";
import type { Variable } from "../../engine/runtime/program.ts";
import type { Groups, Optimizer, StateTensor } from "./adamw.ts";
import { measureGradient, squaresOf } from "./gradient.ts";

export interface AdafactorOptions {
  weight_decay: number; // for the variables of the group `decay` only
  grad_clip: number; // longest gradient, as a Euclidean norm over all variables; 0 for no limit
}

const BETA2_DECAY = -0.8; // the averages take t^-0.8 of what is new at step t (algorithm 6)
const EPSILON1 = 2 ** -23; // smallest root of an average: float32's epsilon
const EPSILON2 = 1e-3; // smallest size of weights that a step is relative to: those that are 0 have to start, too
const ROWS = 256; // of a matrix, after which the event loop may have a turn
const LARGEST = 1; // root mean square of an update, before the learning rate (d, section 6)

type State = { variable: Variable; weightDecay: number } & (
  | { rows: Float32Array; columns: Float32Array; count: number } // of `count` matrices, one after the other
  | { squares: Float32Array } // of a vector
);

export class Adafactor implements Optimizer {
  steps = 0;
  readonly #options: AdafactorOptions;
  readonly #states: State[];

  constructor({ decay, noDecay }: Groups, options: AdafactorOptions) {
    this.#options = options;
    this.#states = [...decay, ...noDecay].map((variable, i) => {
      const weightDecay = i < decay.length ? options.weight_decay : 0;
      const { shape, data } = variable;
      if (shape.length < 2) return { variable, weightDecay, squares: new Float32Array(data.length) };
      const [rows, columns] = shape.slice(-2) as [number, number];
      const count = data.length / (rows * columns);
      const arrays = { rows: new Float32Array(count * rows), columns: new Float32Array(count * columns) };
      return { variable, weightDecay, ...arrays, count };
    });
  }

  async step(learningRate: number, gradScale = 1): Promise<number> {
    const { grad_clip } = this.#options;
    const variables = this.#states.map(({ variable }) => variable);
    const { norm, scale } = await measureGradient(variables, gradScale, grad_clip);
    if (!Number.isFinite(norm)) return norm;
    this.steps++;
    const fresh = this.steps ** BETA2_DECAY;
    const relative = Math.min(learningRate, 1 / Math.sqrt(this.steps)); // algorithm 6: rho
    for (const state of this.#states) {
      const { data, grad } = state.variable;
      const size = Math.sqrt((await squaresOf(data)) / data.length);
      const rate = Math.max(EPSILON2, size) * relative;
      const factors = { scale, fresh, rate, shrink: 1 - learningRate * state.weightDecay };
      if ("squares" in state) vectorStep(data, grad!, state.squares, factors);
      else await matrixStep(data, grad!, state, factors);
    }
    return norm;
  }

  /** The averages of rows and columns, and of each number of a vector. */
  tensors(): StateTensor[] {
    return this.#states.flatMap((state) => {
      const { name, shape } = state.variable;
      if ("squares" in state) return [{ name: `optimizer.variance.${name}`, shape, data: state.squares }];
      const [rows, columns] = shape.slice(-2) as [number, number];
      const outer = shape.slice(0, -2);
      return [
        { name: `optimizer.row_var.${name}`, shape: [...outer, rows, 1], data: state.rows },
        { name: `optimizer.col_var.${name}`, shape: [...outer, 1, columns], data: state.columns },
      ];
    });
  }
}

type Factors = Record<"scale" | "fresh" | "rate" | "shrink", number>;

/** v <- v + fresh (g^2 - v), u = g / sqrt(v), w <- shrink w - rate u / max(1, rms(u) / LARGEST). */
function vectorStep(
  weight: Float32Array,
  grad: Float32Array,
  squares: Float32Array,
  { scale, fresh, rate, shrink }: Factors,
): void {
  let sum = 0;
  for (let i = 0; i < weight.length; i++) {
    const g = grad[i]! * scale;
    squares[i]! += fresh * (g * g - squares[i]!);
    sum += g * g * Math.min(1 / squares[i]!, EPSILON1 ** -2);
  }
  const move = (scale * rate) / Math.max(1, Math.sqrt(sum / weight.length) / LARGEST);
  for (let i = 0; i < weight.length; i++) {
    weight[i] = shrink * weight[i]! - move * grad[i]! * Math.min(1 / Math.sqrt(squares[i]!), 1 / EPSILON1);
  }
}

/** The same with v_ij = r_i c_j / mean(r) from the averages of the squares of row i and of column j (algorithm 4). */
async function matrixStep(
  weight: Float32Array,
  grad: Float32Array,
  { rows, columns, count }: { rows: Float32Array; columns: Float32Array; count: number },
  { scale, fresh, rate, shrink }: Factors,
): Promise<void> {
  const [R, C] = [rows.length / count, columns.length / count];
  const rowRoots = new Float64Array(rows.length); // 1 / sqrt(r_i / mean(r))
  const columnRoots = new Float64Array(columns.length); // 1 / sqrt(c_j)
  const columnSums = new Float64Array(C);
  let sum = 0; // of u^2
  for (let n = 0; n < count; n++) {
    // 1) the averages
    columnSums.fill(0);
    let mean = 0;
    for (let r = n * R; r < (n + 1) * R; r++) {
      if (r % ROWS === 0) await breathe();
      let rowSum = 0;
      for (let c = 0; c < C; c++) {
        const g = grad[r * C + c]! * scale;
        rowSum += g * g;
        columnSums[c]! += g * g;
      }
      rows[r]! += fresh * (rowSum / C - rows[r]!);
      mean += rows[r]! / R;
    }
    for (let c = 0; c < C; c++) columns[n * C + c]! += fresh * (columnSums[c]! / R - columns[n * C + c]!);
    // 2) the size of the update
    for (let r = n * R; r < (n + 1) * R; r++) rowRoots[r] = Math.sqrt(Math.max(mean, EPSILON1) / rows[r]!);
    for (let c = n * C; c < (n + 1) * C; c++) columnRoots[c] = 1 / Math.sqrt(columns[c]!);
    for (let r = n * R; r < (n + 1) * R; r++) {
      if (r % ROWS === 0) await breathe();
      for (let c = 0; c < C; c++) {
        const u = grad[r * C + c]! * scale * Math.min(rowRoots[r]! * columnRoots[n * C + c]!, 1 / EPSILON1);
        sum += u * u;
      }
    }
  }
  // 3) the update
  const move = (scale * rate) / Math.max(1, Math.sqrt(sum / weight.length) / LARGEST);
  for (let n = 0; n < count; n++) {
    for (let r = n * R; r < (n + 1) * R; r++) {
      if (r % ROWS === 0) await breathe();
      for (let c = 0; c < C; c++) {
        const i = r * C + c;
        const root = Math.min(rowRoots[r]! * columnRoots[n * C + c]!, 1 / EPSILON1);
        weight[i] = shrink * weight[i]! - move * grad[i]! * root;
      }
    }
  }
}
