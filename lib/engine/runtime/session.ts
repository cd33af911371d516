// Runs an ONNX model with ONNX Runtime, off the event loop: timers, signals and pages are handled meanwhile.

import { sizeOf } from "../../common/shape.ts";
import type { DType, Shape, TypedArray } from "../graph.ts";
import { cStrings, type OrtApi, ort, type Pointer, type Pointers, pointers } from "./c_api.ts";

/** An array of this process, with its shape and type for the model, which reads and writes it in place. */
export interface Buffer {
  data: TypedArray;
  shape: Shape;
  dtype: DType;
}

/** Options shared by all sessions of an engine. */
export interface Machine {
  threads: number;
}

export interface SessionOptions extends Machine {
  profile?: string | undefined; // path prefix of ONNX Runtime's profile; none without it
  folder?: string; // of the external files with the model's large constants
  spin?: boolean; // threads spin between runs: for short, consecutive runs of one session
  foldUpTo?: number; // constant folding, up to this many bytes per result; no limit without it
}

/** An array with its OrtValue, which is released with it. */
interface HostTensor {
  readonly data: TypedArray;
  readonly value: Pointer;
}

/** Arrays bound to a model's inputs or outputs by name. */
export type Bound = Record<string, HostTensor>;

/** A run was cancelled. Its outputs are invalid. */
export class Cancelled extends Error {
  override name = "Cancelled";

  constructor() {
    super("the run was cancelled");
  }
}

/** Cancel all running runs. */
const cancels = new Set<() => void>();

// An exiting process waits for its threads, and a run may take seconds.
process.on("exit", () => {
  for (const cancel of cancels) cancel();
});

const ALL_OPTIMIZATIONS = 99; // GraphOptimizationLevel
const ELEMENT = { float32: 1, int32: 6, bool: 9 } as const; // ONNXTensorElementDataType

/** A model whose inputs and outputs are arrays of this process: a run allocates and copies nothing. */
export class Session {
  readonly #handle: Pointer;
  readonly #names = new Map<string, Pointers>(); // C strings, by name
  readonly #running = new Set<object>(); // kept alive for the current runs

  private constructor(handle: Pointer) {
    this.#handle = handle;
  }

  static async create(
    model: Uint8Array,
    { threads, profile, folder, foldUpTo, spin }: SessionOptions,
  ): Promise<Session> {
    const api = ort();
    const options = api.get(api.CreateSessionOptions);
    try {
      api.SetIntraOpNumThreads(options, threads);
      api.SetInterOpNumThreads(options, 1);
      api.SetSessionGraphOptimizationLevel(options, ALL_OPTIMIZATIONS);
      // One block for a whole run's memory would be 20 to 30 % larger than the peak need.
      api.DisableMemPattern(options);
      const entries = {
        // Common subexpression elimination would undo recomputation: it keeps the forward pass' values for the backward pass.
        "optimization.disable_specified_optimizers": "CommonSubexpressionElimination",
        // Sessions run in turns: they share one arena, instead of one each.
        "session.use_env_allocators": 1,
        // Threads that spin between runs take cores from the session whose turn it is.
        "session.force_spinning_stop": spin ? 0 : 1,
        "optimization.constant_folding_max_output_size_in_bytes": foldUpTo,
        "session.model_external_initializers_file_folder_path": folder,
      };
      for (const [key, value] of Object.entries(entries)) {
        if (value !== undefined) api.AddSessionConfigEntry(options, key, String(value));
      }
      if (profile) api.EnableProfiling(options, profile);
      const { env } = api;
      return new Session(
        await api.getLater(api.CreateSessionFromArray, env, api.address(model), model.byteLength, options),
      );
    } finally {
      api.ReleaseSessionOptions(options);
      void model.length; // keeps it alive until here
    }
  }

  /**
   * Compute `outputs` from the present contents of `inputs` (both made with `bind`).
   * @param signal cancels the run between two operators
   * @throws Cancelled if it did, OrtError if the inputs don't fit the model
   */
  async run(inputs: Bound, outputs: Bound, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) throw new Cancelled();
    const api = ort();
    const options = api.get(api.CreateRunOptions);
    const cancel = () => api.RunOptionsSetTerminate(options);
    signal?.addEventListener("abort", cancel);
    cancels.add(cancel);
    const [given, wanted] = [this.#list(inputs), this.#list(outputs)];
    const [feeds, results] = [valuesOf(inputs), valuesOf(outputs)];
    const held = { inputs, outputs, feeds, results };
    this.#running.add(held);
    try {
      const counts = [Object.keys(inputs).length, Object.keys(outputs).length];
      await api.Run.later(this.#handle, options, given, feeds, counts[0], wanted, counts[1], results);
    } catch (error) {
      throw signal?.aborted ? new Cancelled() : error;
    } finally {
      this.#running.delete(held);
      signal?.removeEventListener("abort", cancel);
      cancels.delete(cancel);
      api.ReleaseRunOptions(options);
    }
  }

  #list(bound: Bound): BigUint64Array {
    const names = Object.keys(bound);
    const key = names.join("\0");
    const strings = this.#names.get(key) ?? cStrings(names);
    this.#names.set(key, strings);
    return strings.array;
  }

  /** Write the profile, if wanted. */
  endProfiling(): void {
    const api = ort();
    const allocator = api.get(api.GetAllocatorWithDefaultOptions);
    api.AllocatorFree(allocator, api.get(api.SessionEndProfiling, this.#handle, allocator)); // the file's name
  }

  /** @throws Error during a run, which would use freed memory */
  async dispose(): Promise<void> {
    if (this.#running.size > 0) throw new Error("internal: a session was disposed during a run");
    ort().ReleaseSession(this.#handle);
  }
}

const valuesOf = (bound: Bound) => pointers(Object.values(bound).map(({ value }) => value));

const released = new FinalizationRegistry<Pointer>((value) => ort().ReleaseValue(value));

/** Wrap arrays in OrtValues, without copying them. */
export function bind(buffers: Record<string, Buffer>): Bound {
  const api = ort();
  return Object.fromEntries(
    Object.entries(buffers).map(([name, buffer]) => {
      const tensor = { data: buffer.data, value: hostValue(api, buffer) };
      released.register(tensor, tensor.value);
      return [name, tensor];
    }),
  );
}

function hostValue(api: OrtApi, { data, shape, dtype }: Buffer): Pointer {
  const size = sizeOf(shape);
  if (size !== data.length) throw new Error(`internal: [${shape}] of an array of ${data.length}`);
  const dims = new BigInt64Array(new ArrayBuffer(8 * Math.max(1, shape.length)));
  dims.set(shape.map(BigInt));
  const { CreateTensorWithDataAsOrtValue: create, hostMemory, address } = api;
  return api.get(create, hostMemory, address(data), data.byteLength, dims, shape.length, ELEMENT[dtype]);
}

/** The version of ONNX Runtime. */
export const runtimeVersion = () => ort().version;
