// What a traced function does, as data: the kernels tfjs called, in order, with their shapes and attributes.
// Knows neither tfjs nor ONNX. `String(graph)` prints it, one line a kernel, which is how tests compare graphs.

export type DType = "float32" | "int32" | "bool";
export type TypedArray = Float32Array | Int32Array | Uint8Array;
export type Shape = readonly number[];

/** A tensor of the graph: an input, a constant or what a kernel gives. */
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
 * shapes have no -1. Names starting with "Fused" are ours (nn/), the others are tfjs'. */
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
  // fused kernels, each defined by its plain tfjs twin in nn/
  FusedLayerNorm: { epsilon: number }; // x [N, C], weight [C], optional bias [C] -> y, mean [N, 1], inverse deviation [N, 1]
  FusedGelu: None;
  FusedGeluGrad: None; // dy, x
  FusedCrossEntropy: None; // logits [N, V], labels [N] -> loss [], exp(logits - max) [N, V] and its row sums [N, 1]
  FusedCrossEntropyGrad: None; // exponentials [N, V], sums [N, 1], labels [N], dy [] -> [N, V]
  FusedEmbeddingGrad: { rows: number }; // dy [N, C], ids [N] -> [rows, C]
  FusedDropout: { scale: number }; // x, mask
}
export type KernelName = keyof KernelAttrs;

/** A call of kernel K, or of any kernel: then `kernel` tells what `attrs` is. */
export type Node<K extends KernelName = KernelName> = {
  [P in K]: { kernel: P; attrs: KernelAttrs[P]; inputs: readonly Value[]; outputs: readonly Value[] };
}[K];

/** The inputs of a kernel call as its rules take them: how many there are is known from the kernel. */
export type Inputs<T> = [T, T, T, ...T[]];

/** A recorded function from named inputs to named outputs. */
export class Graph {
  readonly inputs = new Map<string, Value>();
  readonly outputs = new Map<string, Value>();
  readonly constants = new Map<Value, TypedArray>();
  readonly nodes: Node[] = [];
  readonly #known = new Map<TypedArray, Value>(); // constants by their array: one that comes again is the same value
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

  /** Drop every kernel whose results no output needs: tfjs' tape records some gradients that nobody asked for. */
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

  /** One line a kernel: `%3 f32[2,4] = Add %0 %1`, then `return name=%3`. */
  toString(): string {
    const type = (v: Value) => `${{ float32: "f32", int32: "i32", bool: "bool" }[v.dtype]}[${v.shape.join(",")}]`;
    const lines: string[] = [];
    for (const [name, v] of this.inputs) lines.push(`%${v.id} ${type(v)} = input ${name}`);
    for (const [v, data] of this.constants) {
      const shown = data.length > 4 ? `${data.subarray(0, 4).join(" ")} …` : data.join(" ");
      lines.push(`%${v.id} ${type(v)} = constant ${shown}`);
    }
    for (const { kernel, attrs, inputs, outputs } of this.nodes) {
      const left = outputs.map((v) => `%${v.id} ${type(v)}`).join(", ");
      const right = [kernel, ...inputs.map((v) => `%${v.id}`)].join(" ");
      lines.push(`${left} = ${right}${Object.keys(attrs).length > 0 ? ` ${JSON.stringify(attrs)}` : ""}`);
    }
    lines.push(`return ${[...this.outputs].map(([name, v]) => `${name}=%${v.id}`).join(" ")}`);
    return lines.join("\n");
  }
}
