// Frozen programs, for inference: a function of inputs with varying sizes and constant weights, which ONNX Runtime maps from a file and
// packs for its products once; they may be in 8 bits. One session serves every size, so a prompt and single tokens share the
// weights.

import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { UserError } from "../../common/errors.ts";
import { TemporaryFolder } from "../../common/temporary_folder.ts";
import type { tf } from "../../common/tf.ts";
import type { Shape } from "../graph.ts";
import { int8Form, quantize, type StoredWeight } from "../int8.ts";
import { type LowerOptions, lower } from "../lower.ts";
import type { Place } from "../onnx.ts";
import { type SizeValues, traceSizes } from "../sizes.ts";
import { type DeclareInput, trace } from "../trace.ts";
import { type Bound, type Machine, Session } from "./session.ts";
import { WeightFile } from "./weight_file.ts";

/** From sizes and the inputs that it declares to named results. */
export type FrozenBody = (sizes: SizeValues, input: DeclareInput) => Record<string, tf.Tensor>;

/** A weight of the model; `value` is the tensor that represents it while the body is traced. */
export interface FrozenWeight {
  readonly name: string;
  readonly shape: Shape;
  readonly data: Float32Array;
  value: tf.Tensor;
}

export interface FrozenOptions {
  /** Their numbers are read when the program is created, from `place`, from `read` or else from `data`. */
  weights: readonly FrozenWeight[];
  /** Where a file has a weight's float32 numbers: if the files of one folder have all of them, they are mapped. */
  place?: ((name: string) => Place | undefined) | undefined;
  /** Reads a weight's numbers without a `place`: one weight after the other, so that they needn't all be in memory. */
  read?: ((name: string, shape: readonly number[], into: Float32Array) => void) | undefined;
  sizes: readonly string[];
  int8?: boolean; // matrices in 8 bits
}

export class FrozenProgram {
  readonly #session: Session;

  private constructor(session: Session) {
    this.#session = session;
  }

  /** @throws UserError if the weights have to be written to a temporary file and can't be */
  static async create(body: FrozenBody, options: FrozenOptions, machine: Machine): Promise<FrozenProgram> {
    const traces = traceFrozen(body, options);
    const { graph } = traces[0]!;
    const stored = new Map<string, StoredWeight>();
    const places = options.weights.map(({ name }) => options.place?.(name));
    const folders = new Set(places.map((place) => place && dirname(place.path)));
    if (folders.size === 1 && !folders.has(undefined) && !options.int8) {
      for (const [i, { name }] of options.weights.entries()) stored.set(name, places[i]!);
      const [folder] = folders as Set<string>;
      const model = lowerFrozen(traces, { weights: stored });
      try {
        return new FrozenProgram(await Session.create(model, { ...machine, spin: true, folder: folder! }));
      } catch (error) {
        const gone = places.find((place) => !existsSync(place!.path));
        throw gone ? new UserError(`${gone.path} was replaced or removed meanwhile; start again`) : error;
      }
    }
    const temporary = new TemporaryFolder("model");
    try {
      const file = new WeightFile(join(temporary.path, "weights.bin"));
      for (const { name, shape, data: own } of options.weights) {
        const data = options.read ? new Float32Array(own.length) : own;
        options.read?.(name, shape, data);
        const value = graph.inputs.get(name)!;
        const form = options.int8 ? int8Form(graph, value) : undefined;
        stored.set(name, form ? storeInt8(file, data, shape, form.transposed) : file.add(data));
      }
      file.close();
      const model = lowerFrozen(traces, { weights: stored });
      return new FrozenProgram(await Session.create(model, { ...machine, spin: true, folder: temporary.path }));
    } finally {
      temporary.remove();
    }
  }

  /** Compute `outputs` from `inputs` (both made with session.ts' `bind`, which may hold any sizes that fit together). */
  async run(inputs: Bound, outputs: Bound): Promise<void> {
    await this.#session.run(inputs, outputs);
  }

  async dispose(): Promise<void> {
    await this.#session.dispose();
  }
}

function storeInt8(file: WeightFile, data: Float32Array, shape: readonly number[], transposed: boolean): StoredWeight {
  const [rows, columns] = (transposed ? [shape[1], shape[0]] : shape) as [number, number];
  const { values, scales, block } = quantize(data, rows, columns, transposed);
  return { values: file.add(values), scales: file.add(scales), block, transposed };
}

type Traces = ReturnType<typeof traceSizes>;

/** The function's graphs at two choices of sizes. */
export function traceFrozen(body: FrozenBody, { weights, sizes }: Pick<FrozenOptions, "weights" | "sizes">): Traces {
  return traceSizes(sizes, (values) =>
    trace((input) => {
      for (const weight of weights) weight.value = input(weight.name, weight.shape, "float32");
      return body(values, input);
    }),
  );
}

/** The model for all sizes. Both traces must give the same: else a number that depends on a size was missed. */
export function lowerFrozen(traces: Traces, options: Omit<LowerOptions, "expressions">): Uint8Array {
  const { constants, ...rest } = options; // compared without the constants: they are the same arrays, and as large as the model
  const [model, again] = traces.map(({ graph, expressions }) => lower(graph, { ...rest, expressions }));
  if (Buffer.compare(model!, again!) !== 0) throw new Error("internal: a number of the model depends on its sizes");
  const { graph, expressions } = traces[0]!;
  return constants ? lower(graph, { ...options, expressions }) : model!;
}
