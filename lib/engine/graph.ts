// The recorded graph of a traced function: the kernels that tfjs called, in order, with their shapes and attributes. Knows neither tfjs
// nor ONNX. `String(graph)` prints it, one line per kernel; tests compare graphs that way.

export type DType = "float32" | "int32" | "bool";
export type TypedArray = Float32Array | Int32Array | Uint8Array;
export type Shape = readonly number[];

/** The arrays that hold a tensor's numbers on the host. */
export const ARRAYS = { float32: Float32Array, int32: Int32Array, bool: Uint8Array } as const;

/** A tensor of the graph: an input, a constant or a kernel's result. */
export interface Value {
  readonly id: number;
  readonly shape: Shape;
  readonly dtype: DType;
}

type None = Record<string, never>;
interface Axes {
  axes: number[];
  keepDims: boolean;
}

/** Every kernel that can be recorded, with its attributes after normalisation: axes are listed and not negative,
 * shapes have no -1. All are tfjs' except Fused, which stands for all of our own kernels. */
export interface KernelAttrs {
  // one input
  Abs: None;
  Ceil: None;
  Cos: None;
  Elu: None;
  Erf: None;
  Exp: None;
  Floor: None;
  Log: None;
  Log1p: None;
  LogicalNot: None;
  Neg: None;
  Reciprocal: None;
  Relu: None;
  Round: None;
  Rsqrt: None;
  Sigmoid: None;
  Sign: None;
  Sin: None;
  Softplus: None;
  Sqrt: None;
  Square: None;
  Tanh: None;
  LeakyRelu: { alpha: number };
  Step: { alpha: number };
  ClipByValue: { min: number; max: number };
  Cast: { dtype: DType };
  Softmax: None; // over the last axis
  LogSoftmax: None; // over the last axis
  Cumsum: { axis: number; exclusive: boolean; reverse: boolean };
  // two inputs, broadcast
  Add: None;
  Sub: None;
  Multiply: None;
  RealDiv: None;
  Maximum: None;
  Minimum: None;
  Pow: None;
  SquaredDifference: None;
  EluGrad: None;
  Equal: None;
  NotEqual: None;
  Greater: None;
  GreaterEqual: None;
  Less: None;
  LessEqual: None;
  LogicalAnd: None;
  LogicalOr: None;
  // reductions
  Sum: Axes;
  Mean: Axes;
  Max: Axes;
  Min: Axes;
  Prod: Axes;
  ArgMax: { axis: number };
  // shapes
  Reshape: None; // to the output's shape
  BroadcastTo: None; // to the output's shape
  Transpose: { perm: number[] };
  Slice: { begin: number[]; size: number[] };
  PadV2: { paddings: [number, number][]; value: number };
  Concat: { axis: number };
  SplitV: { axis: number; sizes: number[] };
  Tile: { reps: number[] };
  // the rest
  AddN: None;
  Select: None; // condition, where true, where false
  BatchMatMul: { transposeA: boolean; transposeB: boolean };
  GatherV2: { axis: number };
  OneHot: { depth: number; on: number; off: number };
  UnsortedSegmentSum: { segments: number };
  Fused: { kernel: FusedOp; attrs: FusedAttrs };
}
export type KernelName = keyof KernelAttrs;

/** The numbers that a fused kernel is called with. */
export type FusedAttrs = Readonly<Record<string, number>>;

/** The shapes of a call: of its inputs and of its results. */
export interface CallShapes {
  inputs: readonly Shape[];
  outputs: readonly Shape[];
}

/**
 * A kernel with its own lowering: the engine keeps no list of them. Its inputs and results are values of the lowered graph, by name,
 * with one result for each of the plain twin's (lib/nn/fused.ts).
 */
export interface FusedOp {
  name: string;
  exact?: boolean; // its products only sum: they stay in float32 in mixed precision
  elementwise?: boolean; // one result of the inputs' shape, element by element: it works in any shape
  lower(g: OpWriter, inputs: Inputs<string>, attrs: FusedAttrs, shapes: CallShapes): string | string[];
  /** The same, added to a value of the result's shape: replaces an Add if that is the result's only use. */
  lowerInto?(g: OpWriter, into: string, inputs: Inputs<string>, attrs: FusedAttrs, shapes: CallShapes): string;
}

/** Writes the lowered graph: operators of the ONNX standard by name (ONNX Runtime's: domain "com.microsoft"), and constants. */
export interface OpWriter {
  readonly standard: boolean; // without ONNX Runtime's own operators
  emit(operator: string, inputs: string[], attributes?: OpAttributes, domain?: string): string;
  emitMany(results: number, operator: string, inputs: string[], attributes?: OpAttributes, domain?: string): string[];
  float(number: number): string;
  int(number: number): string; // int64, as for sizes and axes
  ints(numbers: readonly number[]): string;
  constant(data: TypedArray, shape: Shape, dtype: DType): string;
}

/** Plain numbers are ONNX ints, `{ float }` is a float: JavaScript can't tell 1 from 1.0. */
export type OpAttributes = Record<string, number | string | readonly number[] | { float: number }>;

/** A call of kernel K, or of any kernel: then `kernel` determines the type of `attrs`. */
export type Node<K extends KernelName = KernelName> = {
  [P in K]: { kernel: P; attrs: KernelAttrs[P]; inputs: readonly Value[]; outputs: readonly Value[] };
}[K];

/** The inputs of a kernel call as its rules take them: the kernel determines their number. */
export type Inputs<T> = [T, T, T, ...T[]];

/** A recorded function from named inputs to named outputs. */
export class Graph {
  readonly inputs = new Map<string, Value>();
  readonly outputs = new Map<string, Value>();
  readonly constants = new Map<Value, TypedArray>();
  readonly nodes: Node[] = [];
  readonly #known = new Map<TypedArray, Value>(); // constants by their array: the same array is the same value
  #count = 0;

  value(shape: Shape, dtype: DType): Value {
    return { id: this.#count++, shape: [...shape], dtype };
  }

  input(name: string, shape: Shape, dtype: DType): Value {
    if (this.inputs.has(name)) throw new Error(`internal: two graph inputs are called ${name}`);
    const value = this.value(shape, dtype);
    this.inputs.set(name, value);
    return value;
  }

  /** A constant; `data` must not change afterwards. */
  constant(data: TypedArray, shape: Shape, dtype: DType): Value {
    const known = this.#known.get(data);
    if (known && String(known.shape) === String(shape)) return known;
    const value = this.value(shape, dtype);
    this.constants.set(value, data);
    this.#known.set(data, value);
    return value;
  }

  /** Drop every kernel whose results no output needs: tfjs' tape records some unused gradients. */
  prune(): void {
    const needed = new Set<Value>(this.outputs.values());
    const kept: Node[] = [];
    for (const node of [...this.nodes].reverse()) {
      if (!node.outputs.some((value) => needed.has(value))) continue;
      for (const value of node.inputs) needed.add(value);
      kept.push(node);
    }
    this.nodes.splice(0, this.nodes.length, ...kept.reverse());
    for (const value of this.constants.keys()) if (!needed.has(value)) this.constants.delete(value);
  }

  /** One line per kernel: `%3 f32[2,4] = Add %0 %1`, then `return name=%3`. */
  toString(): string {
    const type = (v: Value) => `${{ float32: "f32", int32: "i32", bool: "bool" }[v.dtype]}[${v.shape.join(",")}]`;
    const lines: string[] = [];
    for (const [name, v] of this.inputs) lines.push(`%${v.id} ${type(v)} = input ${name}`);
    for (const [v, data] of this.constants) {
      const shown = data.length > 4 ? `${data.subarray(0, 4).join(" ")} …` : data.join(" ");
      lines.push(`%${v.id} ${type(v)} = constant ${shown}`);
    }
    for (const { inputs, outputs, ...node } of this.nodes) {
      const left = outputs.map((v) => `%${v.id} ${type(v)}`).join(", ");
      const fused = node.kernel === "Fused";
      const [name, attrs] = fused ? [`Fused${node.attrs.kernel.name}`, node.attrs.attrs] : [node.kernel, node.attrs];
      const right = [name, ...inputs.map((v) => `%${v.id}`)].join(" ");
      lines.push(`${left} = ${right}${Object.keys(attrs).length > 0 ? ` ${JSON.stringify(attrs)}` : ""}`);
    }
    lines.push(`return ${[...this.outputs].map(([name, v]) => `${name}=%${v.id}`).join(" ")}`);
    return lines.join("\n");
  }
}
