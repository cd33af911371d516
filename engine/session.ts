// Runs an ONNX model. The only file that knows ONNX Runtime.

import * as ort from "onnxruntime-node";

import type { DType, Shape, TypedArray } from "./graph.ts";
import { NOT_A_TENSOR } from "./lower.ts";

/** An array of this process and what the model shall take it for. The model reads and writes it in place. */
export interface Buffer {
  data: TypedArray;
  shape: Shape;
  dtype: DType;
}

export interface SessionOptions {
  threads: number;
  profile?: string | undefined; // prefix of the profile that ONNX Runtime writes; none without it
  folder?: string; // of the files in which the model's large constants stand
  foldUpTo?: number; // bytes of a result of constants that is computed once and kept; no limit without it
}

/** Arrays that are bound to a model's inputs or outputs by name. */
export type Bound = Record<string, ort.Tensor>;

/** A model whose inputs and outputs are arrays of this process: a run allocates and copies nothing. */
export class Session {
  readonly #session: ort.InferenceSession;

  private constructor(session: ort.InferenceSession) {
    this.#session = session;
  }

  static async create(model: Uint8Array, options: SessionOptions): Promise<Session> {
    const { threads, profile, folder, foldUpTo } = options;
    const session = await ort.InferenceSession.create(model, {
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      graphOptimizationLevel: "all",
      // One block for a whole run's memory is 20 to 30 % larger than what is needed at any time.
      enableMemPattern: false,
      // Merging equal expressions keeps what the backward pass recomputes on purpose alive from the forward pass on.
      extra: {
        optimization: {
          disable_specified_optimizers: "CommonSubexpressionElimination",
          ...(foldUpTo === undefined ? {} : { constant_folding_max_output_size_in_bytes: String(foldUpTo) }),
        },
        ...(folder === undefined ? {} : { session: { model_external_initializers_file_folder_path: folder } }),
      },
      logSeverityLevel: 3, // errors only: warnings tell of optimizations it passed over
      ...(profile ? { enableProfiling: true, profileFilePrefix: profile } : {}),
    });
    return new Session(session);
  }

  /**
   * Compute `outputs` from what the arrays of `inputs` hold now (both made with `bind`). Blocks the event loop meanwhile.
   *
   * The results are then where they belong, but the binding (1.30) goes on to copy each of them into a new array for
   * its answer: 80 MB took 70 ms and another 80 MB. It does so in the order of the model's outputs, and gives up at one
   * that is not a tensor. So every model has such an output, first, and the complaint is what we wait for. Should a later
   * version learn to answer, the results are the same and nothing is lost but time.
   */
  async run(inputs: Bound, outputs: Bound): Promise<void> {
    try {
      await this.#session.run(inputs, { [NOT_A_TENSOR]: null, ...outputs });
    } catch (error) {
      if (!(error instanceof Error && /non.tensor type/i.test(error.message))) throw error;
    }
  }

  /** Write the profile, if one was asked for. */
  endProfiling(): void {
    this.#session.endProfiling();
  }

  async dispose(): Promise<void> {
    await this.#session.release();
  }
}

/** Make arrays known to ONNX Runtime, without copying them. */
export function bind(buffers: Record<string, Buffer>): Bound {
  const entries = Object.entries(buffers);
  return Object.fromEntries(
    entries.map(([name, { data, shape, dtype }]) => [name, new ort.Tensor(dtype, data, shape)]),
  );
}

/** The version of ONNX Runtime. */
export const runtimeVersion = ort.env.versions.node ?? ort.env.versions.common;
