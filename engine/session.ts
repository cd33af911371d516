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
}

/** A model with all its inputs and outputs bound to arrays once: a run allocates and copies nothing. */
export class Session {
  readonly #session: ort.InferenceSession;
  readonly #feeds: Record<string, ort.Tensor>;

  private constructor(session: ort.InferenceSession, inputs: Record<string, Buffer>) {
    this.#session = session;
    this.#feeds = bind(inputs);
  }

  static async create(model: Uint8Array, inputs: Record<string, Buffer>, options: SessionOptions): Promise<Session> {
    const { threads, profile } = options;
    const session = await ort.InferenceSession.create(model, {
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      graphOptimizationLevel: "all",
      // One block for a whole run's memory is 20 to 30 % larger than what is needed at any time.
      enableMemPattern: false,
      // Merging equal expressions keeps what the backward pass recomputes on purpose alive from the forward pass on.
      extra: { optimization: { disable_specified_optimizers: "CommonSubexpressionElimination" } },
      logSeverityLevel: 3, // errors only: warnings tell of optimizations it passed over
      ...(profile ? { enableProfiling: true, profileFilePrefix: profile } : {}),
    });
    return new Session(session, inputs);
  }

  /**
   * Compute `outputs` (made with `bind`) from what the input arrays hold now. Blocks the event loop meanwhile.
   *
   * The results are then where they belong, but the binding (1.30) goes on to copy each of them into a new array for
   * its answer: 80 MB took 70 ms and another 80 MB. It does so in the order of the model's outputs, and gives up at one
   * that is not a tensor. So every model has such an output, first, and the complaint is what we wait for. Should a later
   * version learn to answer, the results are the same and nothing is lost but time.
   */
  async run(outputs: Record<string, ort.Tensor>): Promise<void> {
    try {
      await this.#session.run(this.#feeds, { [NOT_A_TENSOR]: null, ...outputs });
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
export function bind(buffers: Record<string, Buffer>): Record<string, ort.Tensor> {
  const entries = Object.entries(buffers);
  return Object.fromEntries(
    entries.map(([name, { data, shape, dtype }]) => [name, new ort.Tensor(dtype, data, shape)]),
  );
}

/** The version of ONNX Runtime. */
export const runtimeVersion = ort.env.versions.node ?? ort.env.versions.common;
