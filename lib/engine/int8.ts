// Weight matrices in 8 bits: their quantization, and the lowering of kernels that read one. A matrix is divided into blocks along the
// inputs of one output; each block has its own scale (symmetric, round to nearest).

import type { Graph, Node, Value } from "./graph.ts";
import type { OnnxBuilder, Place } from "./onnx.ts";

/** Numbers per scale. Smaller blocks are more exact and take more memory; a power of 2, at least 16 (MatMulNBits). */
const BLOCK = 64;

/** The 8-bit form of a matrix whose rows are the outputs' weights, [rows, columns]: columns are padded to whole blocks. */
export interface Int8Numbers {
  values: Uint8Array; // [rows, blocks, block], 128 is 0
  scales: Float32Array; // [rows, blocks]
  block: number;
}

/** Where a matrix is in a file. `transposed`: it was [columns, rows] before. */
export interface StoredInt8 {
  values: Place;
  scales: Place;
  block: number;
  transposed: boolean;
}

/** A frozen weight in the lowered model: float32 or 8-bit numbers. */
export type StoredWeight = Place | StoredInt8;

/** @param data [columns, rows] if `transposed`, else [rows, columns] */
export function quantize(data: Float32Array, rows: number, columns: number, transposed: boolean): Int8Numbers {
  const blocks = Math.ceil(columns / BLOCK);
  const values = new Uint8Array(rows * blocks * BLOCK).fill(128);
  const scales = new Float32Array(rows * blocks);
  const [ofRow, ofColumn] = transposed ? [1, rows] : [columns, 1];
  for (let row = 0; row < rows; row++) {
    for (let block = 0; block < blocks; block++) {
      const begin = row * ofRow + block * BLOCK * ofColumn;
      const count = Math.min(BLOCK, columns - block * BLOCK);
      let largest = 0;
      for (let i = 0; i < count; i++) {
        const size = Math.abs(data[begin + i * ofColumn]!);
        if (size > largest) largest = size;
      }
      const scale = Math.fround(largest / 127);
      scales[row * blocks + block] = scale;
      const inverse = scale > 0 ? 1 / scale : 0;
      const out = (row * blocks + block) * BLOCK;
      for (let i = 0; i < count; i++) {
        values[out + i] = data[begin + i * ofColumn]! * inverse + 128.5; // truncated by the array, so rounded to nearest; 128 is 0
      }
    }
  }
  return { values, scales, block: BLOCK };
}

/** A matrix of the lowered model. */
export interface Int8Matrix {
  values: string; // uint8 [rows, blocks, block]
  scales: string; // [rows, blocks]
  rows: number;
  columns: number;
  block: number;
  transposed: boolean;
}

/** Add a matrix as constants. `shape` is that of the traced function. */
export function int8Matrix(g: OnnxBuilder, stored: StoredInt8, shape: readonly number[]): Int8Matrix {
  const { block, transposed } = stored;
  const [rows, columns] = (transposed ? [shape[1], shape[0]] : shape) as [number, number];
  const blocks = Math.ceil(columns / block);
  const values = g.external(stored.values, [rows, blocks, block], "uint8");
  return { values, scales: g.external(stored.scales, [rows, blocks], "float32"), rows, columns, block, transposed };
}

/**
 * Can a weight be an 8-bit matrix for every kernel that reads it, and in which orientation? It must be the second factor of products,
 * perhaps also a lookup table, all in the same orientation. (A table that is only looked up gains no speed, and 8 bits hurt GPT-2's
 * position embeddings most.)
 */
export function int8Form(graph: Graph, weight: Value): { transposed: boolean } | undefined {
  if (weight.shape.length !== 2) return undefined;
  const wanted = new Set<boolean | undefined>();
  for (const { kernel, attrs, inputs } of graph.nodes) {
    if (!inputs.includes(weight)) continue;
    const [first, second] = inputs;
    if (kernel === "GatherV2") wanted.add(attrs.axis === 0 && second !== weight ? false : undefined);
    else if (kernel !== "BatchMatMul" || first === weight || attrs.transposeA) wanted.add(undefined);
    else wanted.add(first!.shape.length === 2 ? !attrs.transposeB : undefined);
  }
  const [transposed] = wanted;
  const multiplied = graph.nodes.some(({ kernel, inputs }) => kernel === "BatchMatMul" && inputs[1] === weight);
  return multiplied && wanted.size === 1 && transposed !== undefined ? { transposed } : undefined;
}

/** The kernel's result, with `matrix` as its weights. */
export function lowerInt8(g: OnnxBuilder, inputs: string[], node: Node, matrix: Int8Matrix): string {
  const { values, scales, rows, columns, block, transposed } = matrix;
  if (node.kernel === "BatchMatMul" && node.attrs.transposeB !== transposed) {
    // accuracy_level 4: quantizes the other factor too, block by block, which makes it fast
    const attributes = { K: columns, N: rows, bits: 8, block_size: block, accuracy_level: 4 };
    return g.emit("MatMulNBits", [inputs[0]!, values, scales], attributes, "com.microsoft");
  }
  if (node.kernel !== "GatherV2" || transposed) throw new Error(`internal: ${node.kernel} takes no 8-bit matrix`);
  const ids = inputs[1]!;
  const numbers = g.emit("Cast", [g.emit("Gather", [values, ids], { axis: 0 })], { to: 1 }); // [..., blocks, block]
  const scale = g.emit("Unsqueeze", [g.emit("Gather", [scales, ids], { axis: 0 }), g.ints([-1])]);
  const whole = g.emit("Mul", [g.emit("Sub", [numbers, g.float(128)]), scale]);
  const padded = Math.ceil(columns / block) * block;
  const flat = g.emit("Reshape", [whole, g.ints([...node.outputs[0]!.shape.slice(0, -1), padded])]);
  return padded === columns ? flat : g.emit("Slice", [flat, g.ints([0]), g.ints([columns]), g.ints([-1])]);
}
