// Traces a tfjs function: runs it once on a backend that computes nothing and records every kernel call, tfjs' own gradients included,
// into a Graph. Knows tfjs but not ONNX.
//
// To add a tfjs kernel: its attributes in KernelAttrs (graph.ts), a rule here that gives the result's shape, and a lowering rule in
// lower.ts (the type checker asks for it).

import { sizeOf } from "../common/shape.ts";
import { tf } from "../common/tf.ts";
import {
  ARRAYS,
  type DType,
  Graph,
  type Inputs,
  type KernelAttrs,
  type KernelName,
  type Shape,
  type TypedArray,
  type Value,
} from "./graph.ts";

/** The function could not be traced; the message says which call and what to do instead. */
export class TraceError extends Error {
  override name = "TraceError";
}

/** Declares an input of the graph during tracing, and returns the tensor that represents it. */
export type DeclareInput = (name: string, shape: Shape, dtype: DType) => tf.Tensor;

/**
 * Record `body`. It runs once, inside a tidy; numbers that it creates itself (`tf.scalar(0.5)`) become constants, so whatever changes
 * from run to run has to be declared as an input.
 * @throws TraceError if the body reads a tensor's value or calls a kernel without a rule
 */
export function trace(body: (input: DeclareInput) => Record<string, tf.Tensor>): Graph {
  const graph = new Graph();
  const previous = tf.getBackend() || "cpu";
  if (backend.graph) throw new TraceError("a traced function can't trace another one");
  backend.graph = graph;
  void tf.setBackend("trace"); // registered with a synchronous factory: it is set when this returns
  try {
    tf.tidy(() => {
      const outputs = body((name, shape, dtype) => {
        const { dataId } = backend.symbol(graph.input(name, shape, dtype));
        return tf.engine().makeTensorFromDataId(dataId, [...shape], dtype);
      });
      for (const [name, tensor] of Object.entries(outputs)) graph.outputs.set(name, backend.lookup(tensor));
    });
  } finally {
    backend.graph = undefined;
    void tf.setBackend(previous);
  }
  graph.prune();
  return graph;
}

/** The backend's entry for a tensor. Its numbers are known only if tfjs code wrote them itself. */
interface Entry {
  graph: Graph;
  value: Value;
  data?: TypedArray;
}

class TraceBackend extends tf.KernelBackend {
  graph: Graph | undefined;
  readonly sources = new WeakMap<Value, Value>(); // what a reshaped value is a view of
  readonly views = new WeakMap<Value, Value[]>(); // all views of a value
  readonly #entries = new tf.DataStorage<Entry>(this, tf.engine());

  current(): Graph {
    if (!this.graph) throw new TraceError("the trace backend works only inside trace(); set another tfjs backend");
    return this.graph;
  }

  /** The tensor info that represents a value of the graph. */
  symbol(value: Value): tf.TensorInfo {
    const dataId = {};
    this.#entries.set(dataId, { graph: this.current(), value });
    return { dataId, shape: [...value.shape], dtype: value.dtype };
  }

  /** The graph's value behind a tensor. A constant of an earlier trace is added to this one. */
  lookup(info: tf.TensorInfo): Value {
    const graph = this.current();
    const entry = this.#entries.get(info.dataId);
    if (entry.graph !== graph) {
      if (!entry.data) throw new TraceError("a tensor of an earlier trace was used: keep none across traces");
      this.#entries.set(info.dataId, this.#constant(entry.data, entry.value.shape, entry.value.dtype));
      return this.lookup(info);
    }
    // a reshaped view shares the data but not the shape
    return sameShape(entry.value.shape, info.shape) ? entry.value : reshape(entry.value, info.shape);
  }

  #constant(data: TypedArray, shape: Shape, dtype: DType): Entry {
    const graph = this.current();
    return { graph, value: graph.constant(data, shape, dtype), data };
  }

  override write(values: tf.BackendValues, shape: number[], dtype: tf.DataType): tf.DataId {
    const dataId = {};
    this.#entries.set(dataId, this.#constant(typed(values, dtype), shape, known(dtype)));
    return dataId;
  }

  override move(dataId: tf.DataId, values: tf.BackendValues, shape: number[], dtype: tf.DataType): void {
    this.#entries.set(dataId, this.#constant(typed(values, dtype), shape, known(dtype)));
  }

  override readSync(dataId: tf.DataId): tf.BackendValues {
    const { data } = this.#entries.get(dataId);
    if (data) return data;
    throw new TraceError(
      "a value was read while tracing (data, dataSync, array, print): nothing is computed yet. Keep to tensor " +
        "operations, or run with --compile=false",
    );
  }

  override async read(dataId: tf.DataId): Promise<tf.BackendValues> {
    return this.readSync(dataId);
  }

  override disposeData(dataId: tf.DataId): boolean {
    return this.#entries.has(dataId) && this.#entries.delete(dataId);
  }

  override numDataIds = () => this.#entries.numDataIds();
  override incRef(): void {}
  override refCount = () => 1;
  override timerAvailable = () => false;
  override floatPrecision = () => 32 as const;
  override epsilon = () => 1e-7;
  override memory = () => ({ unreliable: true });
}

const backend = new TraceBackend();

function known(dtype: tf.DataType): DType {
  if (dtype === "float32" || dtype === "int32" || dtype === "bool") return dtype;
  throw new TraceError(`tensors of type ${dtype} can't be traced; use float32, int32 or bool`);
}

function typed(values: tf.BackendValues, dtype: tf.DataType): TypedArray {
  const array = ARRAYS[known(dtype)];
  return values instanceof array ? values : array.from(values as ArrayLike<number>);
}

/** Record a kernel call with one result. */
function record<K extends KernelName>(
  kernel: K,
  attrs: KernelAttrs[K],
  inputs: readonly Value[],
  shape: Shape,
  dtype: DType = "float32",
): Value {
  return recordMany(kernel, attrs, inputs, [shape], dtype)[0]!;
}

/** Record a kernel call with a result for each shape, all of one type. */
function recordMany<K extends KernelName>(
  kernel: K,
  attrs: KernelAttrs[K],
  inputs: readonly Value[],
  shapes: readonly Shape[],
  dtype: DType = "float32",
): Value[] {
  const graph = backend.current();
  const outputs = shapes.map((shape) => graph.value(shape, dtype));
  graph.nodes.push({ kernel, attrs, inputs, outputs } as Graph["nodes"][number]);
  return outputs;
}

/** The value in another shape. A view of a view is a view of the original, with one view per shape. */
function reshape(x: Value, shape: Shape): Value {
  const source = backend.sources.get(x) ?? x;
  const views = backend.views.get(source) ?? [source];
  const known = views.find((view) => sameShape(view.shape, shape));
  if (known) return known;
  const view = record("Reshape", {}, [source], shape, x.dtype);
  backend.sources.set(view, source);
  backend.views.set(source, [...views, view]);
  return view;
}

/** Elementwise work on values of one shape: if one of them is a view, in the shape of its source. So a chain of layers that take rows
 * needs no reshapes in between. */
function elementwise(inputs: readonly Value[], make: (inputs: Value[]) => Value): Value {
  const { shape } = inputs[0]!;
  const source = inputs.map((value) => backend.sources.get(value)).find((found) => found);
  if (!source || !inputs.every((value) => sameShape(value.shape, shape))) return make([...inputs]);
  return reshape(make(inputs.map((value) => reshape(value, source.shape))), shape);
}

const sameShape = (a: Shape, b: Shape) => a.length === b.length && a.every((size, i) => size === b[i]);
const broadcast = (a: Value, b: Value): Shape => tf.backend_util.assertAndGetBroadcastShape([...a.shape], [...b.shape]);
const axesOf = (axis: number | number[] | undefined, x: Value) =>
  tf.util.parseAxisParam(axis ?? x.shape.map((_, i) => i), [...x.shape]);
const axisOf = (axis: number, x: Value) => axesOf(axis, x)[0]!;

// ---- the rules: a tfjs kernel's inputs (in its own order) and attributes -> values ----------------------------------

type Rule<A> = (inputs: Inputs<Value>, attrs: A) => Value | Value[]; // tfjs wants an array from kernels with several results

/** Register a rule for a tfjs kernel; `names` are its inputs' names, in the graph's order. */
function rule<A = unknown>(kernelName: string, names: string, run: Rule<A>): void {
  tf.registerKernel({
    kernelName,
    backendName: "trace",
    kernelFunc: ({ inputs, attrs }) => {
      const tensors = names === "*" ? Object.values(inputs) : names.split(" ").map((name) => inputs[name]);
      const values = tensors.filter((t) => t !== undefined).map((t) => backend.lookup(t as tf.TensorInfo));
      const results = run(values as Inputs<Value>, (attrs ?? {}) as A);
      return Array.isArray(results) ? results.map((value) => backend.symbol(value)) : backend.symbol(results);
    },
  });
}

type Unary = Extract<
  KernelName,
  keyof { [K in KernelName as KernelAttrs[K] extends Record<string, never> ? K : never]: 1 }
>;

const UNARY: Unary[] = [
  "Abs",
  "Ceil",
  "Cos",
  "Elu",
  "Erf",
  "Exp",
  "Floor",
  "Log",
  "Log1p",
  "Neg",
  "Reciprocal",
  "Relu",
];
UNARY.push("Round", "Rsqrt", "Sigmoid", "Sign", "Sin", "Softplus", "Sqrt", "Square", "Tanh", "LogicalNot");
for (const kernel of UNARY) {
  rule(kernel, "x", (inputs) => elementwise(inputs, ([x]) => record(kernel, {}, [x!], x!.shape, x!.dtype)));
}
for (const kernel of ["Softmax", "LogSoftmax"] as const) {
  rule<{ dim?: number }>(kernel, "logits", ([x], { dim = -1 }) => {
    if (axisOf(dim, x) !== x.shape.length - 1) throw new TraceError(`${kernel}: only over the last axis`);
    return record(kernel, {}, [x], x.shape);
  });
}

const BINARY: Unary[] = ["Add", "Sub", "Multiply", "RealDiv", "Maximum", "Minimum", "Pow", "SquaredDifference"];
for (const kernel of BINARY) {
  rule(kernel, "a b", (inputs) =>
    elementwise(inputs, ([a, b]) => record(kernel, {}, [a!, b!], broadcast(a!, b!), a!.dtype)),
  );
}
const COMPARE: Unary[] = [
  "Equal",
  "NotEqual",
  "Greater",
  "GreaterEqual",
  "Less",
  "LessEqual",
  "LogicalAnd",
  "LogicalOr",
];
for (const kernel of COMPARE) {
  rule(kernel, "a b", ([a, b]) => record(kernel, {}, [a, b], broadcast(a, b), "bool"));
}
rule("EluGrad", "dy y", ([dy, y]) => record("EluGrad", {}, [dy, y], y.shape));
rule("AddN", "*", (inputs) => record("AddN", {}, inputs, inputs[0].shape, inputs[0].dtype));
rule("Select", "condition t e", ([condition, t, e]) => record("Select", {}, [condition, t, e], t.shape, t.dtype));
rule<{ alpha: number }>("LeakyRelu", "x", ([x], { alpha }) => record("LeakyRelu", { alpha }, [x], x.shape));
rule<{ alpha: number }>("Step", "x", ([x], { alpha }) => record("Step", { alpha }, [x], x.shape));
rule<{ clipValueMin: number; clipValueMax: number }>("ClipByValue", "x", ([x], { clipValueMin, clipValueMax }) =>
  record("ClipByValue", { min: clipValueMin, max: clipValueMax }, [x], x.shape),
);
rule<{ axis: number; exclusive: boolean; reverse: boolean }>("Cumsum", "x", ([x], { axis, exclusive, reverse }) =>
  record("Cumsum", { axis: axisOf(axis, x), exclusive, reverse }, [x], x.shape, x.dtype),
);

const toFloat = (x: Value) =>
  x.dtype === "float32" ? x : record("Cast", { dtype: "float32" }, [x], x.shape, "float32");

function reduction(kernel: "Sum" | "Mean" | "Max" | "Min" | "Prod") {
  rule<{ axis?: number | number[]; reductionIndices?: number | number[]; keepDims?: boolean }>(
    kernel,
    "x",
    ([given], attrs) => {
      const x = kernel === "Mean" ? toFloat(given) : given;
      const axes = axesOf(attrs.axis ?? attrs.reductionIndices, x);
      const keepDims = attrs.keepDims ?? false;
      const shape = keepDims
        ? x.shape.map((size, i) => (axes.includes(i) ? 1 : size))
        : x.shape.filter((_, i) => !axes.includes(i));
      if (axes.length === 0) return x; // nothing to reduce; in ONNX no axes mean all
      return record(kernel, { axes, keepDims }, [x], shape, x.dtype === "bool" ? "int32" : x.dtype);
    },
  );
}
for (const kernel of ["Sum", "Mean", "Max", "Min", "Prod"] as const) reduction(kernel);
rule<{ axis: number }>("ArgMax", "x", ([x], { axis }) => {
  const at = axisOf(axis, x);
  return record(
    "ArgMax",
    { axis: at },
    [x],
    x.shape.filter((_, i) => i !== at),
    "int32",
  );
});

// shapes
rule("Identity", "x", ([x]) => x);
rule<{ dtype: tf.DataType }>("Cast", "x", ([x], { dtype }) =>
  x.dtype === dtype ? x : record("Cast", { dtype: known(dtype) }, [x], x.shape, known(dtype)),
);
rule<{ shape: number[] }>("Reshape", "x", ([x], { shape }) =>
  reshape(x, tf.util.inferFromImplicitShape(shape, sizeOf(x.shape))),
);
rule<{ dim: number }>("ExpandDims", "input", ([x], { dim }) => {
  const at = dim < 0 ? x.shape.length + 1 + dim : dim;
  return reshape(x, [...x.shape.slice(0, at), 1, ...x.shape.slice(at)]);
});
rule<{ perm: number[] }>("Transpose", "x", ([x], { perm }) =>
  record(
    "Transpose",
    { perm: [...perm] },
    [x],
    perm.map((axis) => x.shape[axis]!),
    x.dtype,
  ),
);
rule<{ begin: number[]; size: number[] }>("Slice", "x", ([x], attrs) => {
  const info = { dataId: {}, shape: [...x.shape], dtype: x.dtype };
  const [begin, size] = tf.slice_util.parseSliceParams(info, attrs.begin, attrs.size);
  return record("Slice", { begin: begin!, size: size! }, [x], size!, x.dtype);
});
rule<{ paddings: [number, number][]; constantValue: number }>("PadV2", "x", ([x], { paddings, constantValue }) => {
  const shape = x.shape.map((size, i) => size + paddings[i]![0] + paddings[i]![1]);
  return record("PadV2", { paddings, value: constantValue }, [x], shape, x.dtype);
});
const concat = (inputs: Value[], axis: number) => {
  const shape = inputs[0]!.shape.map((size, i) => (i === axis ? inputs.reduce((n, v) => n + v.shape[i]!, 0) : size));
  return record("Concat", { axis }, inputs, shape, inputs[0]!.dtype);
};
rule<{ axis: number }>("Concat", "*", (inputs, { axis }) => concat(inputs, axisOf(axis, inputs[0]!)));
rule<{ axis: number }>("Pack", "*", (inputs, { axis }) => {
  const at = axis < 0 ? inputs[0].shape.length + 1 + axis : axis;
  return concat(
    inputs.map((x) => reshape(x, [...x.shape.slice(0, at), 1, ...x.shape.slice(at)])),
    at,
  );
});
const split = (x: Value, axis: number, sizes: number[]) => {
  const shapes = sizes.map((size) => x.shape.map((old, i) => (i === axis ? size : old)));
  return recordMany("SplitV", { axis, sizes }, [x], shapes, x.dtype);
};
rule<{ numOrSizeSplits: number | number[]; axis: number }>("SplitV", "x", ([x], { numOrSizeSplits, axis }) => {
  const at = axisOf(axis, x);
  return split(
    x,
    at,
    tf.backend_util.prepareSplitSize({ ...x, shape: [...x.shape] } as tf.Tensor, numOrSizeSplits, at),
  );
});
rule<{ axis: number }>("Unpack", "value", ([x], { axis }) => {
  const at = axisOf(axis, x);
  const shape = x.shape.filter((_, i) => i !== at);
  return split(x, at, new Array<number>(x.shape[at]!).fill(1)).map((part) => reshape(part, shape));
});
rule<{ reps: number[] }>("Tile", "x", ([x], { reps }) =>
  record(
    "Tile",
    { reps: [...reps] },
    [x],
    x.shape.map((size, i) => size * reps[i]!),
    x.dtype,
  ),
);
rule<{ inputShape: number[]; shape: number[] }>("BroadcastTo", "x", ([x], { shape }) =>
  record("BroadcastTo", {}, [x], shape, x.dtype),
);

// constants: a uniform array costs nothing, however large (lower.ts)
function uniform(shape: Shape, number: number, dtype: DType): Value {
  return backend.current().constant(new ARRAYS[dtype](sizeOf(shape)).fill(number), shape, dtype);
}
rule<{ shape: number[]; value: number; dtype?: tf.DataType }>("Fill", "*", (_, { shape, value, dtype }) =>
  uniform(shape, value, known(dtype ?? "float32")),
);
rule<{ start: number; stop: number; step: number; dtype: tf.DataType }>("Range", "*", (_, attrs) => {
  const { start, stop, step } = attrs;
  const numbers = new Float32Array(Math.max(0, Math.ceil((stop - start) / step))).map((_, i) => start + i * step);
  const dtype = known(attrs.dtype ?? "float32");
  return backend.current().constant(typed(numbers, dtype), [numbers.length], dtype);
});
rule("ZerosLike", "x", ([x]) => uniform(x.shape, 0, x.dtype));
rule("OnesLike", "x", ([x]) => uniform(x.shape, 1, x.dtype));

// products and tables
rule<{ transposeA: boolean; transposeB: boolean }>("BatchMatMul", "a b", ([a, b], { transposeA, transposeB }) => {
  const outer = tf.backend_util.assertAndGetBroadcastShape([...a.shape.slice(0, -2)], [...b.shape.slice(0, -2)]);
  const rows = a.shape.at(transposeA ? -1 : -2)!;
  const columns = b.shape.at(transposeB ? -2 : -1)!;
  return record("BatchMatMul", { transposeA, transposeB }, [a, b], [...outer, rows, columns]);
});
rule<{ axis: number; batchDims?: number }>("GatherV2", "x indices", ([x, indices], { axis, batchDims = 0 }) => {
  if (batchDims > 0) throw new TraceError("GatherV2: batchDims is not supported; use --compile=false");
  const at = axisOf(axis, x);
  const shape = [...x.shape.slice(0, at), ...indices.shape, ...x.shape.slice(at + 1)];
  return record("GatherV2", { axis: at }, [x, indices], shape, x.dtype);
});
rule<{ depth: number; onValue: number; offValue: number; dtype: tf.DataType }>("OneHot", "indices", ([x], attrs) => {
  const { depth, onValue: on, offValue: off, dtype } = attrs;
  return record("OneHot", { depth, on, off }, [x], [...x.shape, depth], known(dtype));
});
rule<{ numSegments: number }>("UnsortedSegmentSum", "x segmentIds", ([x, ids], { numSegments }) =>
  record("UnsortedSegmentSum", { segments: numSegments }, [x, ids], [numSegments, ...x.shape.slice(ids.shape.length)]),
);

// a fused kernel: lib/nn/fused.ts gives its results' shapes
rule<KernelAttrs["Fused"] & { shapes: Shape[] }>("Fused", "*", (inputs, { kernel, attrs, shapes }) => {
  if (!kernel.elementwise) return recordMany("Fused", { kernel, attrs }, inputs, shapes);
  return [elementwise(inputs, (given) => record("Fused", { kernel, attrs }, given, given[0]!.shape))];
});

// all other kernels of tfjs: an error with the name instead of tfjs' "not registered"
for (const { kernelName } of tf.getKernelsForBackend("cpu")) {
  if (tf.getKernel(kernelName, "trace")) continue;
  rule(kernelName, "*", () => {
    throw new TraceError(
      `the engine has no rule for the tfjs kernel ${kernelName}: write the step with other operations, add a rule ` +
        "to lib/engine/trace.ts and lib/engine/lower.ts, or run with --compile=false",
    );
  });
}
tf.registerBackend("trace", () => backend, 0);
