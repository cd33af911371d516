// Builds an ONNX model and writes it as protobuf. Only the part of the format that the engine uses: one graph of dense tensors, whose
// sizes may be symbolic; large constants may be in external files. Field numbers: onnx.proto of the ONNX project.

import { basename } from "node:path";
import { encoderOf, type Messages } from "../common/protobuf.ts";
import type { DType, OpWriter, Shape, TypedArray } from "./graph.ts";
import type { Expression, Expressions } from "./sizes.ts";

type AttributeValue = number | string | readonly number[] | { float: number } | { tensor: Tensor };
export type Attributes = Record<string, AttributeValue>;

interface Tensor {
  name?: string;
  dims: readonly number[];
  dataType: number;
  rawData?: Uint8Array;
  externalData?: { key: string; value: string }[];
  dataLocation?: number; // 1: external
}

/** Where some bytes are. */
export interface Place {
  path: string;
  offset: number;
  bytes: number;
}
interface OnnxNode {
  opType: string;
  domain: string;
  input: string[];
  output: string[];
  attribute: object[];
}

const ELEMENT = { float32: 1, uint8: 2, int32: 6, int64: 7, bool: 9 } as const;
const OPSET = 20; // the first with Gelu
const IR_VERSION = 9;

/** A graph under construction. Values are identified by name. */
export class OnnxBuilder implements OpWriter {
  readonly #nodes: OnnxNode[] = [];
  readonly #initializers: Tensor[] = [];
  readonly #inputs: object[] = [];
  readonly #outputs: object[] = [];
  readonly #shared = new Map<string, string>(); // small constants by their content
  readonly #expressions: Expressions;
  readonly #dimensions = new Map<string, [input: string, axis: number]>(); // where a symbolic size can be read
  readonly #sizes = new Map<string, string>(); // int64: a size, a sum or product of sizes, a vector of these, by its parts
  readonly #renamed = new Map<string, string>(); // values that are outputs of the graph, to the outputs' names
  #count = 0;

  readonly standard: boolean;

  /**
   * @param expressions which numbers in shapes are symbolic, and their expressions
   * @param standard must the model avoid ONNX Runtime's own operators?
   */
  constructor(expressions: Expressions = new Map(), standard = false) {
    this.#expressions = expressions;
    this.standard = standard;
  }

  /** Is one of the numbers symbolic, so that it may be 0? */
  isOpen(numbers: readonly number[]): boolean {
    return numbers.some((number) => this.#expressions.has(number));
  }

  #name(): string {
    return `t${this.#count++}`;
  }

  /** Add a node with one result. */
  emit(opType: string, input: string[], attributes: Attributes = {}, domain = ""): string {
    return this.emitMany(1, opType, input, attributes, domain)[0]!;
  }

  /** Add a node with `count` results. An input called "" is omitted, as in ONNX. */
  emitMany(count: number, opType: string, input: string[], attributes: Attributes = {}, domain = ""): string[] {
    const output = Array.from({ length: count }, () => this.#name());
    const attribute = Object.entries(attributes).map(([name, value]) => encodeAttribute(name, value));
    this.#nodes.push({ opType, domain, input, output, attribute });
    return output;
  }

  input(name: string, shape: Shape, dtype: DType): string {
    this.#inputs.push(this.#valueInfo(name, shape, dtype));
    shape.forEach((size, axis) => {
      const expression = this.#expressions.get(size);
      if (expression && isName(expression)) this.#dimensions.set(describe(expression), [name, axis]);
    });
    return name;
  }

  /** Give a value the name of a graph output. `fresh`: a node's result that has no output name yet. */
  output(name: string, value: string, shape: Shape, dtype: DType, fresh: boolean): void {
    this.#outputs.push(this.#valueInfo(name, shape, dtype));
    if (!fresh) {
      this.#nodes.push({ opType: "Identity", domain: "", input: [value], output: [name], attribute: [] });
      return;
    }
    this.#renamed.set(value, name);
  }

  /** A constant tensor. A large one with a single repeated number takes no space in the model. */
  constant(data: TypedArray, shape: Shape, dtype: DType): string {
    if (data.length > 64 && data.every((number) => number === data[0])) {
      const value = { tensor: { dims: [1], dataType: ELEMENT[dtype], rawData: bytesOf(data.slice(0, 1)) } };
      return this.emit("ConstantOfShape", [this.ints(shape)], { value });
    }
    return this.#initializer(bytesOf(data), shape, ELEMENT[dtype]);
  }

  float(number: number): string {
    return this.constant(Float32Array.of(number), [], "float32");
  }

  /** A constant tensor whose bytes are in an external file, found by name in the folder given to the runtime. */
  external({ path, offset, bytes }: Place, shape: Shape, type: "float32" | "uint8"): string {
    const name = this.#name();
    const entries = { location: basename(path), offset: String(offset), length: String(bytes) };
    const externalData = Object.entries(entries).map(([key, value]) => ({ key, value }));
    this.#initializers.push({ name, dims: shape, dataType: ELEMENT[type], externalData, dataLocation: 1 });
    return name;
  }

  /** An int64 vector: shapes, axes, pads. A constant, unless one of the numbers is symbolic. */
  ints(numbers: readonly number[]): string {
    if (this.isOpen(numbers)) {
      const parts = numbers.map((number) => {
        const expression = this.#expressions.get(number);
        return expression ? this.#size(expression) : this.ints([number]);
      });
      if (parts.length === 1) return parts[0]!;
      const key = parts.join();
      if (!this.#sizes.has(key)) this.#sizes.set(key, this.emit("Concat", parts, { axis: 0 }));
      return this.#sizes.get(key)!;
    }
    return this.#initializer(bytesOf(BigInt64Array.from(numbers, BigInt)), [numbers.length], ELEMENT.int64);
  }

  int(number: number): string {
    const expression = this.#expressions.get(number);
    if (expression) return this.emit("Reshape", [this.#size(expression), this.ints([])]);
    return this.#initializer(bytesOf(BigInt64Array.of(BigInt(number))), [], ELEMENT.int64);
  }

  /** An expression's value, int64 [1]. */
  #size({ factor, terms }: Expression): string {
    const combine = (operator: string, parts: string[], names: string[]) =>
      parts.reduce((sum, part, i) => {
        const name = names.slice(0, i + 1).join(operator);
        if (!this.#sizes.has(name)) this.#sizes.set(name, this.emit(operator, [sum, part]));
        return this.#sizes.get(name)!;
      });
    const sums = terms.map((term) =>
      combine(
        "Add",
        term.map((name) => this.#named(name)),
        term,
      ),
    );
    const names = terms.map((term) => term.join("Add"));
    const product = combine("Mul", sums, names);
    return factor === 1 ? product : combine("Mul", [product, this.ints([factor])], [names.join("Mul"), String(factor)]);
  }

  #named(name: string): string {
    const [input, axis] = this.#dimensions.get(name) ?? [];
    if (input === undefined) throw new Error(`internal: no input has the size ${name} as a dimension`);
    const size = this.#sizes.get(name) ?? this.emit("Shape", [input], { start: axis!, end: axis! + 1 });
    this.#sizes.set(name, size);
    return size;
  }

  #valueInfo(name: string, shape: Shape, dtype: DType): object {
    const dim = shape.map((size) => {
      const expression = this.#expressions.get(size);
      return expression ? { dimParam: describe(expression) } : { dimValue: size };
    });
    return { name, type: { tensorType: { elemType: ELEMENT[dtype], shape: { dim } } } };
  }

  #initializer(rawData: Uint8Array, dims: Shape, dataType: number): string {
    const key = rawData.length <= 64 ? `${dataType}[${dims}]${rawData}` : "";
    const known = this.#shared.get(key);
    if (known) return known;
    const name = this.#name();
    this.#initializers.push({ name, dims, dataType, rawData });
    if (key) this.#shared.set(key, name);
    return name;
  }

  get nodeCount(): number {
    return this.#nodes.length;
  }

  /** The model as the bytes of an .onnx file. */
  serialize(): Uint8Array {
    const renamed = (names: string[]) => names.map((name) => this.#renamed.get(name) ?? name);
    const named = this.#nodes.map((n) => ({ ...n, input: renamed(n.input), output: renamed(n.output) }));
    const node = inReach(named).map((n, i) => ({ ...n, name: `${n.opType}_${i}` }));
    return encodeModel({
      irVersion: IR_VERSION,
      producerName: "nanogpt-ts",
      opsetImport: [
        { domain: "", version: OPSET },
        ...(this.standard ? [] : [{ domain: "com.microsoft", version: 1 }]),
      ],
      graph: { name: "model", node, initializer: this.#initializers, input: this.#inputs, output: this.#outputs },
    });
  }
}

/**
 * Order the nodes so that ONNX Runtime computes each one near where it was recorded. It starts from the nodes that no other node reads,
 * the last one first, and computes what each of them needs. Given a training step in recorded order, it would take the last
 * gradient first, and with it the whole backward pass, and all weights' gradients after that: their inputs would have to wait in
 * memory. So these nodes come last and in reverse.
 */
function inReach(nodes: readonly OnnxNode[]): OnnxNode[] {
  const read = new Set(nodes.flatMap(({ input }) => input));
  const isLast = ({ output }: OnnxNode) => !output.some((name) => read.has(name));
  return [...nodes.filter((node) => !isLast(node)), ...nodes.filter(isLast).reverse()];
}

function bytesOf(data: TypedArray | BigInt64Array): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

const isName = ({ factor, terms }: Expression) => factor === 1 && terms.length === 1 && terms[0]!.length === 1;

/** A readable expression: "12*batch", "past+length". */
function describe({ factor, terms }: Expression): string {
  const sums = terms.map((term) =>
    term.length > 1 && (factor > 1 || terms.length > 1) ? `(${term.join("+")})` : term.join("+"),
  );
  return [...(factor === 1 ? [] : [factor]), ...sums].join("*");
}

/** Plain numbers are ONNX ints, `{ float }` is a float: JavaScript can't tell 1 from 1.0. */
function encodeAttribute(name: string, value: AttributeValue): object {
  if (typeof value === "number") return { name, type: 2, i: value };
  if (typeof value === "string") return { name, type: 3, s: Buffer.from(value) };
  if (Array.isArray(value)) return { name, type: 7, ints: value };
  if ("float" in value) return { name, type: 1, f: value.float };
  if ("tensor" in value) return { name, type: 4, t: value.tensor };
  throw new Error(`internal: attribute ${name} has a type that can't be written`);
}

// ---- the message types -------------------------------------------------------------------------------------------

const MESSAGES: Messages = {
  Model: {
    irVersion: [1, "int64"],
    producerName: [2, "string"],
    opsetImport: [8, "OperatorSet", "repeated"],
    graph: [7, "Graph"],
  },
  OperatorSet: { domain: [1, "string"], version: [2, "int64"] },
  Graph: {
    node: [1, "Node", "repeated"],
    name: [2, "string"],
    initializer: [5, "Tensor", "repeated"],
    input: [11, "ValueInfo", "repeated"],
    output: [12, "ValueInfo", "repeated"],
  },
  Node: {
    input: [1, "string", "repeated"],
    output: [2, "string", "repeated"],
    name: [3, "string"],
    opType: [4, "string"],
    attribute: [5, "Attribute", "repeated"],
    domain: [7, "string"],
  },
  Attribute: {
    name: [1, "string"],
    f: [2, "float"],
    i: [3, "int64"],
    s: [4, "bytes"],
    t: [5, "Tensor"],
    ints: [8, "int64", "repeated"],
    type: [20, "int32"],
  },
  Tensor: {
    dims: [1, "int64", "repeated"],
    dataType: [2, "int32"],
    name: [8, "string"],
    rawData: [9, "bytes"],
    externalData: [13, "Entry", "repeated"],
    dataLocation: [14, "int32"],
  },
  Entry: { key: [1, "string"], value: [2, "string"] },
  ValueInfo: { name: [1, "string"], type: [2, "Type"] },
  Type: { tensorType: [1, "TensorType"] },
  TensorType: { elemType: [1, "int32"], shape: [2, "TensorShape"] },
  TensorShape: { dim: [1, "Dimension", "repeated"] },
  Dimension: { dimValue: [1, "int64"], dimParam: [2, "string"] },
};

const encodeModel = encoderOf(MESSAGES, "Model");
