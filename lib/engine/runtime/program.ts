// Programs: functions of (weights, inputs), prepared to run many times, either compiled (traced, lowered, run by ONNX Runtime) or eager
// (the same function on a tfjs backend, the slow twin that the compiled one must equal). Knows no model.
//
//   const engine = await createEngine({ compile: true, threads: 2 });
//   const backward = await engine.program(({ x, y }, rng) => loss(x, y, rng), { variables, inputs, gradients: true });
//   const [loss] = await backward.run({ x, y }, { dropout: [seed, iteration] });   // gradients: in variable.grad

import { breathe } from "../../common/breathe.ts";
import { fillIntegers, fillKeepMask, type Key, keyOf } from "../../common/rng.ts";
import { sizeOf } from "../../common/shape.ts";
import { tf } from "../../common/tf.ts";
import { ARRAYS, type DType, type Graph, type Shape } from "../graph.ts";
import { withHalfProducts } from "../half.ts";
import { lower } from "../lower.ts";
import { type DeclareInput, trace } from "../trace.ts";
import { defaultThreads, useEagerBackend } from "./device.ts";
import { type FrozenBody, type FrozenOptions, FrozenProgram } from "./frozen.ts";
import { type Bound, type Buffer, bind, Cancelled, type Machine, runtimeVersion, Session } from "./session.ts";
import {
  compileStateful,
  eagerStateful,
  type StatefulBody,
  type StatefulOptions,
  type StatefulProgram,
} from "./stateful.ts";

/** A weight of the model. Its numbers are in `data`; `value` is the tensor that represents them while a body runs. */
export interface Variable {
  readonly name: string;
  readonly shape: Shape;
  readonly data: Float32Array;
  grad?: Float32Array;
  value: tf.Tensor;
}

/** Dropout's random numbers; each call gives new ones. */
export interface DropoutRng {
  /** A bool tensor of the shape, true where an element is kept. */
  keep(shape: Shape, rate: number): tf.Tensor;
  /** An int32 tensor of the shape: signed integers of `bits` bits, uniformly distributed. */
  integers(shape: Shape, bits: number): tf.Tensor;
}

/** A program's function: one tensor (a scalar, for gradients) from tensors, in tfjs operations. */
export type Body<Name extends string> = (inputs: Record<Name, tf.Tensor>, rng: DropoutRng) => tf.Tensor;

export interface ProgramOptions<Name extends string> {
  variables: readonly Variable[];
  inputs: Record<Name, { shape: Shape; dtype: DType }>;
  gradients?: boolean;
  accumulate?: boolean; // a run adds to the existing gradients, inside the graph; else it replaces them
  half?: boolean; // matrix products in float16 (autocast.ts)
  profile?: string | undefined; // path prefix of the profile that ONNX Runtime writes on dispose
}

export interface RunOptions {
  dropout?: readonly (number | string)[]; // key of the random masks: the same list gives the same masks
  signal?: AbortSignal | undefined; // cancels the run; its outputs are then invalid
  lossScale?: number | undefined; // for a program with `half`: gradients are multiplied by this; 1 if not given
}

export interface Program<Name extends string> {
  /** Compute the body's value. With gradients, they are then in `variable.grad`. The array is reused by the next run.
   * @throws EngineError if an input has another length than the program's, Cancelled if the signal was aborted */
  run(inputs: Record<Name, Int32Array | Float32Array>, options?: RunOptions): Promise<Float32Array>;
  readonly graph?: Graph;
  dispose(): Promise<void>;
}

export interface Engine {
  readonly description: string;
  readonly threads: number;
  program<Name extends string>(body: Body<Name>, options: ProgramOptions<Name>): Promise<Program<Name>>;
  /** A program that changes arrays in place (stateful.ts). */
  stateful(body: StatefulBody, options: StatefulOptions): Promise<StatefulProgram>;
  /** A compiled program with constant weights and varying sizes (frozen.ts); an eager engine has none. */
  frozen(body: FrozenBody, options: FrozenOptions): Promise<FrozenProgram>;
}

/** A run's inputs don't fit its program. */
export class EngineError extends Error {
  override name = "EngineError";
}

/** Constant folding, up to this many bytes per result. Larger ones are computed in each run: a long text's attention biases would be
 * kept for every block of queries in every layer, quadratic in the length. */
const FOLD_UP_TO = 2 ** 16;

/** @param options.threads 0 for one per physical core */
export async function createEngine(options: { compile: boolean; threads?: number }): Promise<Engine> {
  const threads = options.threads || defaultThreads();
  if (options.compile) {
    const machine: Machine = { threads };
    const description = `cpu, compiled (onnxruntime ${runtimeVersion()}, ${threads} thread${threads > 1 ? "s" : ""})`;
    return {
      description,
      threads,
      program: (body, spec) => CompiledProgram.create(body, spec, machine),
      stateful: (body, spec) => compileStateful(body, spec, machine),
      frozen: (body, spec) => FrozenProgram.create(body, spec, machine),
    };
  }
  const description = await useEagerBackend();
  return {
    description,
    threads,
    program: async (body, spec) => new EagerProgram(body, spec),
    stateful: async (body, spec) => eagerStateful(body, spec),
    frozen: async () => {
      throw new EngineError("a frozen program needs an engine that compiles");
    },
  };
}

interface Evaluation {
  tensors: tf.Tensor[]; // of the variables
  gradients: boolean;
  sums?: tf.Tensor[] | undefined; // added to the gradients
  scale?: tf.Tensor | undefined; // multiplies the gradients
}

/** Run `body` with the variables' values being `tensors`; with the gradients of its value, if wanted. */
function evaluate(
  variables: readonly Variable[],
  body: () => tf.Tensor,
  { tensors, gradients, sums, scale }: Evaluation,
): { value: tf.Tensor; grads: tf.Tensor[] } {
  variables.forEach((variable, i) => {
    variable.value = tensors[i]!;
  });
  if (!gradients) return { value: body(), grads: [] };
  const { value, grads } = tf.valueAndGrads(() => body() as tf.Scalar)(tensors, scale as tf.Scalar | undefined);
  return { value, grads: sums ? grads.map((grad, i) => tf.add(sums[i]!, grad)) : grads };
}

const arrayOf = (shape: Shape, dtype: DType) => new ARRAYS[dtype](sizeOf(shape));

function checkLength(name: string, shape: Shape, given: number): void {
  if (given === sizeOf(shape)) return;
  throw new EngineError(
    `the step was made for ${name} [${shape}] (${sizeOf(shape)} numbers) and got ${given}: keep the shape, or make a ` +
      "second program",
  );
}

type Data = ReturnType<typeof arrayOf>;

/** Fills an array with random choices, a function of the key. */
type Fill = (data: Data, key: Key) => void;

function dropoutRng(choose: (shape: Shape, dtype: DType, fill: Fill) => tf.Tensor): DropoutRng {
  return {
    keep: (shape, rate) => choose(shape, "bool", (data, key) => fillKeepMask(data as Uint8Array, key, rate)),
    integers: (shape, bits) => choose(shape, "int32", (data, key) => fillIntegers(data as Int32Array, key, bits)),
  };
}

/** The input with the factor of the gradients: it changes from step to step. */
const LOSS_SCALE = "loss_scale";
/** Prefixes of a variable's name: its gradient, an output, and the sum that it is added to, an input. */
const [GRAD, SUM] = ["grad.", "sum."];

class CompiledProgram<Name extends string> implements Program<Name> {
  readonly graph: Graph;
  readonly #session: Session;
  readonly #profiled: boolean;
  readonly #inputs: Record<string, Buffer>;
  readonly #feeds: Bound;
  readonly #choices: { data: Data; fill: Fill }[];
  readonly #value: Float32Array;
  readonly #outputs: Bound;

  private constructor(
    graph: Graph,
    session: Session,
    differentiated: readonly Variable[],
    inputs: Record<string, Buffer>,
    choices: { data: Data; fill: Fill }[],
    profiled: boolean,
  ) {
    this.graph = graph;
    this.#profiled = profiled;
    this.#session = session;
    this.#inputs = inputs;
    this.#feeds = bind(inputs);
    this.#choices = choices;
    const value = graph.outputs.get("value")!;
    this.#value = new Float32Array(sizeOf(value.shape));
    const grads = differentiated.map(({ name, shape, grad }) => [
      GRAD + name,
      { data: grad!, shape, dtype: "float32" },
    ]);
    this.#outputs = bind({
      value: { data: this.#value, shape: value.shape, dtype: "float32" },
      ...Object.fromEntries(grads),
    });
  }

  static async create<Name extends string>(body: Body<Name>, options: ProgramOptions<Name>, machine: Machine) {
    const { variables, gradients = false, half = false, profile } = options;
    const fills: Fill[] = [];
    const graph = trace((input) => traceBody(body, options, fills, input));
    const buffers: Record<string, Buffer> = {};
    if (gradients) for (const variable of variables) gradOf(variable);
    const known = new Map(
      variables.flatMap(({ name, data, grad }) => [[name, data] as const, [SUM + name, grad] as const]),
    );
    for (const [name, { shape, dtype }] of graph.inputs) {
      buffers[name] = { data: known.get(name) ?? arrayOf(shape, dtype), shape, dtype };
    }
    await breathe();
    const model = lower(graph, { half });
    await breathe();
    const session = await Session.create(model, { ...machine, profile, foldUpTo: FOLD_UP_TO });
    const choices = fills.map((fill, i) => ({ data: buffers[`dropout.${i}`]!.data as Data, fill }));
    return new CompiledProgram<Name>(graph, session, gradients ? variables : [], buffers, choices, Boolean(profile));
  }

  async run(inputs: Record<Name, Int32Array | Float32Array>, options: RunOptions = {}): Promise<Float32Array> {
    for (const name in inputs) {
      const { data, shape } = this.#inputs[name]!;
      checkLength(name, shape, inputs[name].length);
      data.set(inputs[name]);
    }
    for (const [i, { data, fill }] of this.#choices.entries()) {
      fill(data, keyOf("dropout", ...(options.dropout ?? []), i));
      await breathe();
    }
    this.#inputs[LOSS_SCALE]?.data.set([options.lossScale ?? 1]);
    await this.#session.run(this.#feeds, this.#outputs, options.signal);
    return this.#value;
  }

  async dispose(): Promise<void> {
    if (this.#profiled) this.#session.endProfiling();
    await this.#session.dispose();
  }
}

/** The traced function: declares the weights and inputs, names the value and the gradients. */
function traceBody<Name extends string>(
  body: Body<Name>,
  { variables, inputs, gradients = false, accumulate = false, half = false }: ProgramOptions<Name>,
  fills: Fill[],
  input: DeclareInput,
): Record<string, tf.Tensor> {
  const declare = (prefix: string) => variables.map(({ name, shape }) => input(prefix + name, shape, "float32"));
  const weights = declare("");
  const tensors = {} as Record<Name, tf.Tensor>;
  for (const name in inputs) tensors[name] = input(name, inputs[name].shape, inputs[name].dtype);
  const rng = dropoutRng((shape, dtype, fill) => input(`dropout.${fills.push(fill) - 1}`, shape, dtype));
  const scale = gradients && half ? input(LOSS_SCALE, [], "float32") : undefined;
  const sums = gradients && accumulate ? declare(SUM) : undefined; // the addition is done in place
  const { value, grads } = evaluate(variables, () => body(tensors, rng), { tensors: weights, gradients, sums, scale });
  return { value, ...Object.fromEntries(grads.map((grad, i) => [GRAD + variables[i]!.name, grad])) };
}

class EagerProgram<Name extends string> implements Program<Name> {
  readonly #body: Body<Name>;
  readonly #options: ProgramOptions<Name>;

  constructor(body: Body<Name>, options: ProgramOptions<Name>) {
    this.#body = body;
    this.#options = options;
    if (options.gradients) for (const variable of options.variables) gradOf(variable);
  }

  async run(inputs: Record<Name, Int32Array | Float32Array>, options: RunOptions = {}): Promise<Float32Array> {
    const { variables, inputs: specs, gradients = false, accumulate = false, half = false } = this.#options;
    if (options.signal?.aborted) throw new Cancelled(); // a running operation can't be cancelled
    let count = 0;
    const rng = dropoutRng((shape, dtype, fill) => {
      const data = arrayOf(shape, dtype);
      fill(data, keyOf("dropout", ...(options.dropout ?? []), count++));
      return tf.tensor(data, [...shape], dtype);
    });
    const compute = () => {
      const tensorsOf = (arrays: Float32Array[]) => arrays.map((data, i) => tf.tensor(data, [...variables[i]!.shape]));
      const weights = tensorsOf(variables.map(({ data }) => data));
      const sums = accumulate ? tensorsOf(variables.map((variable) => gradOf(variable))) : undefined;
      const tensors = {} as Record<Name, tf.Tensor>;
      for (const name in inputs) {
        const { shape, dtype } = specs[name];
        checkLength(name, shape, inputs[name].length);
        tensors[name] = tf.tensor(inputs[name], [...shape], dtype);
      }
      const scale = half ? tf.scalar(options.lossScale ?? 1) : undefined;
      const given = { tensors: weights, gradients, sums, scale };
      const { value, grads } = evaluate(variables, () => this.#body(tensors, rng), given);
      return [value, ...grads];
    };
    const results = tf.tidy(() => (half ? withHalfProducts(compute) : compute()));
    const [value, ...grads] = await Promise.all(results.map((tensor) => tensor.data() as Promise<Float32Array>));
    tf.dispose(results);
    for (const [i, grad] of grads.entries()) gradOf(variables[i]!).set(grad);
    return value!;
  }

  async dispose(): Promise<void> {}
}

/** A variable's gradient, 0 before the first run. */
function gradOf(variable: Variable): Float32Array {
  variable.grad ??= new Float32Array(variable.data.length);
  return variable.grad;
}
