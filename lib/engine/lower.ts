// Lowers a recorded graph to an ONNX model: one rule per kernel, in a table that the type checker keeps complete. Knows ONNX's
// operators and ONNX Runtime's own (domain com.microsoft), but not how a model is run.
//
// The rules are for ONNX Runtime's CPU provider. Every kernel here gives the same bits for any number of threads; ScatterND with
// duplicate indices, for example, does not, and is not used.

import { sizeOf } from "../common/shape.ts";
import { AutocastBuilder } from "./autocast.ts";
import {
  ARRAYS,
  type DType,
  type Graph,
  type Inputs,
  type KernelAttrs,
  type KernelName,
  type Node,
  type TypedArray,
  type Value,
} from "./graph.ts";
import { type Int8Matrix, int8Matrix, lowerInt8, type StoredWeight } from "./int8.ts";
import { OnnxBuilder } from "./onnx.ts";
import type { Expressions } from "./sizes.ts";

export interface LowerOptions {
  expressions?: Expressions; // which numbers in shapes are symbolic, and their expressions (sizes.ts)
  weights?: ReadonlyMap<string, StoredWeight>; // inputs that are constants of the model, and where their numbers are
  constants?: ReadonlyMap<string, TypedArray>; // inputs that are constants inside the model
  half?: boolean; // matrix products in float16 (autocast.ts)
  standard?: boolean; // for other programs: ONNX's own operators only
}

/** The graph as the bytes of an ONNX model, its inputs and outputs under the graph's names. */
export function lower(
  graph: Graph,
  { expressions, weights, constants, half = false, standard = false }: LowerOptions = {},
): Uint8Array {
  const g = new (half ? AutocastBuilder : OnnxBuilder)(expressions, standard);
  const names = new Map<Value, string>();
  const packed = new Map<string, Int8Matrix>();
  for (const [name, value] of graph.inputs) {
    const stored = weights?.get(name);
    if (stored && "block" in stored) packed.set(name, int8Matrix(g, stored, value.shape));
    const inside = constants?.get(name);
    if (stored && "offset" in stored) names.set(value, g.external(stored, value.shape, "float32"));
    else if (inside) names.set(value, g.constant(inside, value.shape, value.dtype));
    else names.set(value, stored ? name : g.input(name, value.shape, value.dtype));
  }
  for (const [value, data] of graph.constants) names.set(value, g.constant(data, value.shape, value.dtype));
  const results = new Set<string>(); // node results that no output is named after yet
  const additions = additionsInPlace(graph);
  for (const node of graph.nodes) {
    const addition = additions.get(node.outputs[0]!);
    if (addition === "later") continue;
    const inputs = node.inputs.map((value) => names.get(value)!);
    const matrix = inputs.map((name) => packed.get(name)).find((found) => found);
    const outputs = matrix
      ? [lowerInt8(g, inputs, node, matrix)]
      : addition
        ? [lowerAddition(g, names, addition)]
        : [lowerNode(g, inputs, node)].flat();
    node.outputs.forEach((value, i) => {
      names.set(value, outputs[i]!);
      if (!inputs.includes(outputs[i]!)) results.add(outputs[i]!);
    });
  }
  for (const [name, value] of graph.outputs) {
    const from = names.get(value)!;
    g.output(name, from, value.shape, value.dtype, results.delete(from));
  }
  return g.serialize();
}

/** A fused call whose result is added in place to another value. */
interface Addition {
  node: Node<"Fused">;
  other: Value;
}

/**
 * With tied weights the gradient of a large embedding is added to that of the output layer. Both are as large as the table, so the
 * first is scattered into the second (FusedOp.lowerInto): "later" marks a result that is then never computed separately, and the
 * Addition stands for the sum.
 */
function additionsInPlace(graph: Graph): Map<Value, Addition | "later"> {
  const uses = new Map<Value, number>();
  for (const value of [...graph.nodes.flatMap(({ inputs }) => inputs), ...graph.outputs.values()]) {
    uses.set(value, (uses.get(value) ?? 0) + 1);
  }
  const candidates = new Map<Value, Node<"Fused">>();
  const additions = new Map<Value, Addition | "later">();
  for (const node of graph.nodes) {
    const [result] = node.outputs;
    if (node.kernel === "Fused" && node.attrs.kernel.lowerInto && uses.get(result!) === 1)
      candidates.set(result!, node);
    if (node.kernel !== "Add") continue;
    const [a, b] = node.inputs as [Value, Value];
    for (const [part, other] of [
      [a, b],
      [b, a],
    ] as const) {
      const candidate = candidates.get(part);
      if (!candidate || additions.has(result!) || String(other.shape) !== String(part.shape)) continue;
      additions.set(part, "later").set(result!, { node: candidate, other });
    }
  }
  return additions;
}

function lowerAddition(g: OnnxBuilder, names: Map<Value, string>, { node, other }: Addition): string {
  const { kernel, attrs } = node.attrs;
  const inputs = node.inputs.map((value) => names.get(value)!) as Inputs<string>;
  return kernel.lowerInto!(g, names.get(other)!, inputs, attrs, shapesOf(node));
}

/** The values of a kernel call, for rules that depend on their shapes. */
type Call = Pick<Node, "inputs" | "outputs">;
type Rule<A> = (g: OnnxBuilder, inputs: Inputs<string>, attrs: A, call: Call) => string | string[];

function lowerNode<K extends KernelName>(g: OnnxBuilder, inputs: string[], node: Node<K>) {
  return rules[node.kernel](g, inputs as Inputs<string>, node.attrs, node);
}

/** A kernel with an equivalent ONNX operator. */
const same =
  (op: string): Rule<unknown> =>
  (g, inputs) =>
    g.emit(op, inputs);

const reduce =
  (op: string): Rule<KernelAttrs["Sum"]> =>
  (g, [x], { axes, keepDims }, node) => {
    const counted = node.inputs[0]!.dtype === "bool" ? g.emit("Cast", [x], { to: 6 }) : x;
    return g.emit(op, [counted, g.ints(axes)], { keepdims: keepDims ? 1 : 0 });
  };

const ELEMENT = { float32: 1, int32: 6, bool: 9 } as const;

const rules: { [K in KernelName]: Rule<KernelAttrs[K]> } = {
  Abs: same("Abs"),
  Ceil: same("Ceil"),
  Cos: same("Cos"),
  Elu: same("Elu"),
  Erf: same("Erf"),
  Exp: same("Exp"),
  Floor: same("Floor"),
  Log: same("Log"),
  Log1p: (g, [x]) => g.emit("Log", [g.emit("Add", [x, g.float(1)])]),
  LogicalNot: same("Not"),
  Neg: same("Neg"),
  Reciprocal: same("Reciprocal"),
  Relu: same("Relu"),
  Round: same("Round"),
  Rsqrt: (g, [x]) => g.emit("Reciprocal", [g.emit("Sqrt", [x])]),
  Sigmoid: same("Sigmoid"),
  Sign: same("Sign"),
  Sin: same("Sin"),
  Softplus: same("Softplus"),
  Sqrt: same("Sqrt"),
  Square: (g, [x]) => g.emit("Mul", [x, x]),
  Tanh: same("Tanh"),
  LeakyRelu: (g, [x], { alpha }) => g.emit("LeakyRelu", [x], { alpha: { float: alpha } }),
  Step: (g, [x], { alpha }) => g.emit("Where", [g.emit("Greater", [x, g.float(0)]), g.float(1), g.float(alpha)]),
  ClipByValue: (g, [x], { min, max }) => g.emit("Clip", [x, g.float(min), g.float(max)]),
  Cast: (g, [x], { dtype }) => g.emit("Cast", [x], { to: ELEMENT[dtype] }),
  Softmax: (g, [x]) => g.emit("Softmax", [x], { axis: -1 }),
  LogSoftmax: (g, [x]) => g.emit("LogSoftmax", [x], { axis: -1 }),
  Cumsum: (g, [x], { axis, exclusive, reverse }) =>
    g.emit("CumSum", [x, g.int(axis)], { exclusive: exclusive ? 1 : 0, reverse: reverse ? 1 : 0 }),

  Add: same("Add"),
  Sub: same("Sub"),
  Multiply: same("Mul"),
  RealDiv: same("Div"),
  Maximum: same("Max"),
  Minimum: same("Min"),
  Pow: same("Pow"),
  SquaredDifference: (g, [a, b]) => {
    const d = g.emit("Sub", [a, b]);
    return g.emit("Mul", [d, d]);
  },
  EluGrad: (g, [dy, y]) => {
    const slope = g.emit("Add", [g.emit("Min", [y, g.float(0)]), g.float(1)]); // 1 above zero, exp(x) = y + 1 below
    return g.emit("Mul", [dy, slope]);
  },
  Equal: same("Equal"),
  NotEqual: (g, inputs) => g.emit("Not", [g.emit("Equal", inputs)]),
  Greater: same("Greater"),
  GreaterEqual: same("GreaterOrEqual"),
  Less: same("Less"),
  LessEqual: same("LessOrEqual"),
  LogicalAnd: same("And"),
  LogicalOr: same("Or"),

  Sum: reduce("ReduceSum"),
  Mean: reduce("ReduceMean"),
  Max: reduce("ReduceMax"),
  Min: reduce("ReduceMin"),
  Prod: reduce("ReduceProd"),
  ArgMax: (g, [x], { axis }) => g.emit("Cast", [g.emit("ArgMax", [x], { axis, keepdims: 0 })], { to: ELEMENT.int32 }),

  Reshape: (g, [x], _, node) => {
    const { shape } = node.outputs[0]!;
    return g.emit("Reshape", [x, g.ints(shape)], g.isOpen(shape) ? { allowzero: 1 } : {});
  },
  BroadcastTo: (g, [x], _, node) => g.emit("Expand", [x, g.ints(node.outputs[0]!.shape)]),
  Transpose: (g, [x], { perm }) => g.emit("Transpose", [x], { perm }),
  Slice: (g, [x], { begin, size }) => g.emit("Slice", [x, g.ints(begin), g.ints(begin.map((at, i) => at + size[i]!))]),
  PadV2: (g, [x], { paddings, value }, node) => {
    const pads = g.ints([...paddings.map(([before]) => before), ...paddings.map(([, after]) => after)]);
    const fill = node.inputs[0]!.dtype === "int32" ? g.constant(Int32Array.of(value), [], "int32") : g.float(value);
    return g.emit("Pad", [x, pads, fill]);
  },
  Concat: (g, inputs, { axis }) => g.emit("Concat", inputs, { axis }),
  SplitV: (g, [x], { axis, sizes }) => g.emitMany(sizes.length, "Split", [x, g.ints(sizes)], { axis }),
  Tile: (g, [x], { reps }) => g.emit("Tile", [x, g.ints(reps)]),

  AddN: (g, inputs) => (inputs.length === 1 ? inputs[0]! : g.emit("Sum", inputs)),
  Select: same("Where"),
  BatchMatMul: (g, [a, b], { transposeA, transposeB }, node) => {
    if (!transposeA && !transposeB) return g.emit("MatMul", [a, b]);
    const turn = { transA: transposeA ? 1 : 0, transB: transposeB ? 1 : 0 };
    if (node.inputs.every(({ shape }) => shape.length === 2)) return g.emit("Gemm", [a, b], turn);
    if (g.standard)
      return g.emit("MatMul", [
        transpose(g, a, node.inputs[0]!, transposeA),
        transpose(g, b, node.inputs[1]!, transposeB),
      ]);
    return g.emit("FusedMatMul", [a, b], { ...turn, alpha: { float: 1 } }, "com.microsoft");
  },
  GatherV2: (g, [x, indices], { axis }) => g.emit("Gather", [x, indices], { axis }),
  OneHot: (g, [indices], { depth, on, off }, node) => {
    // by comparison: ONNX's OneHot takes index -1 as the last class, tfjs as none
    const number = (n: number, dtype: DType) => g.constant(new ARRAYS[dtype]([n]), [], dtype);
    const column = g.emit("Reshape", [indices, g.ints([...node.inputs[0]!.shape, 1])]);
    const classes = g.emit("Range", [number(0, "int32"), number(depth, "int32"), number(1, "int32")]);
    const { dtype } = node.outputs[0]!;
    return g.emit("Where", [g.emit("Equal", [column, classes]), number(on, dtype), number(off, dtype)]);
  },
  UnsortedSegmentSum: (g, [x, ids], { segments }, node) => {
    const count = sizeOf(node.inputs[1]!.shape);
    const width = sizeOf(node.inputs[0]!.shape.slice(node.inputs[1]!.shape.length));
    // rows with an id out of range go to an extra segment, which is cut off
    const last = g.constant(Int32Array.of(segments), [], "int32");
    const negative = g.emit("Less", [ids, g.constant(Int32Array.of(0), [], "int32")]);
    const known = g.emit("Where", [negative, last, g.emit("Min", [ids, last])]);
    const index = g.emit("Expand", [g.emit("Reshape", [known, g.ints([count, 1])]), g.ints([count, width])]);
    const zeros = g.emit("ConstantOfShape", [g.ints([segments + 1, width])]);
    const addends = g.emit("Reshape", [x, g.ints([count, width])]);
    const rows = g.emit("ScatterElements", [zeros, index, addends], { axis: 0, reduction: "add" });
    const kept = g.emit("Slice", [rows, g.ints([0]), g.ints([segments])]);
    return g.emit("Reshape", [kept, g.ints(node.outputs[0]!.shape)]);
  },

  Fused: (g, inputs, { kernel, attrs }, call) => {
    const write = () => kernel.lower(g, inputs, attrs, shapesOf(call));
    return kernel.exact && g instanceof AutocastBuilder ? g.exactly(write) : write();
  },
};

/** x, with its last two axes swapped if `transpose`. */
function transpose(g: OnnxBuilder, name: string, { shape }: Value, wished: boolean): string {
  if (!wished) return name;
  const axes = shape.map((_, axis) => axis);
  return g.emit("Transpose", [name], { perm: [...axes.slice(0, -2), ...axes.slice(-2).reverse()] });
}

const shapesOf = ({ inputs, outputs }: Call) => ({
  inputs: inputs.map(({ shape }) => shape),
  outputs: outputs.map(({ shape }) => shape),
});

/** Every kernel that can be lowered. */
export const kernelNames = Object.keys(rules) as KernelName[];
