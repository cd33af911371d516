// The loops that a step spends outside of ONNX Runtime, four numbers at a time: lib/common/kernels.wat, run by V8 like any
// WebAssembly. Blocks of the arrays are copied into its memory, which stays in the first-level cache, and back, so the
// arrays can be anywhere and of any size.
//
// kernels.wasm is kernels.wat assembled by the package wabt; `npm run kernels` does it, and a test does it again.

import { readFileSync } from "node:fs";

const BLOCK = 2048; // floats of each array in the memory at once: 4 arrays x 8 KB
const MASK_BLOCK = 1 << 15; // bytes

// the part of the global that is used here; its types come with the browser's library only
declare const WebAssembly: {
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object) => { exports: unknown };
};

interface Kernels {
  memory: { buffer: ArrayBuffer };
  adamw(bytes: number, stride: number, ...factors: number[]): void;
  lion(bytes: number, stride: number, ...factors: number[]): void;
  sumOfSquares(bytes: number): number;
  keepMask(bytes: number, first: number, k0: number, k1: number, keep: number): void;
}

const module = new WebAssembly.Module(readFileSync(new URL("kernels.wasm", import.meta.url)));
const kernels = new WebAssembly.Instance(module).exports as Kernels;
const bytes = new Uint8Array(kernels.memory.buffer);
const areas = [0, 1, 2, 3].map((i) => new Float32Array(kernels.memory.buffer, i * BLOCK * 4, BLOCK));
const [weights, , averages, squares] = areas as [Float32Array, Float32Array, Float32Array, Float32Array];

/** What AdamW does to one number; `adamwPlain` in optimizer.ts says what each factor is. */
export interface AdamWFactors {
  scale: number;
  beta1: number;
  beta2: number;
  shrink: number;
  rate: number;
  correction: number;
  epsilon: number;
}

/** One step of AdamW on arrays of one length, in single precision; weight, average and square are changed in place. */
export function adamw(
  weight: Float32Array,
  grad: Float32Array,
  average: Float32Array,
  square: Float32Array,
  { scale, beta1, beta2, shrink, rate, correction, epsilon }: AdamWFactors,
): void {
  for (let from = 0; from < weight.length; from += BLOCK) {
    const to = Math.min(weight.length, from + BLOCK);
    const parts = [weight, grad, average, square].map((array) => array.subarray(from, to));
    for (const [i, part] of parts.entries()) areas[i]!.set(part);
    const size = ((to - from + 3) >> 2) * 16; // what lies behind the end is computed too, and left there
    kernels.adamw(size, BLOCK * 4, scale, beta1, 1 - beta1, beta2, 1 - beta2, shrink, rate, correction, epsilon);
    const count = to - from;
    parts[0]!.set(count === BLOCK ? weights : weights.subarray(0, count));
    parts[2]!.set(count === BLOCK ? averages : averages.subarray(0, count));
    parts[3]!.set(count === BLOCK ? squares : squares.subarray(0, count));
  }
}

/** What Lion does to one number; `lionPlain` in optimizers/lion.ts says what each factor is. */
export interface LionFactors {
  scale: number;
  beta1: number;
  beta2: number;
  shrink: number;
  rate: number;
}

/** One step of Lion on arrays of one length, in single precision; weight and average are changed in place. */
export function lion(
  weight: Float32Array,
  grad: Float32Array,
  average: Float32Array,
  { scale, beta1, beta2, shrink, rate }: LionFactors,
): void {
  for (let from = 0; from < weight.length; from += BLOCK) {
    const to = Math.min(weight.length, from + BLOCK);
    const parts = [weight, grad, average].map((array) => array.subarray(from, to));
    for (const [i, part] of parts.entries()) areas[i]!.set(part);
    const size = ((to - from + 3) >> 2) * 16; // what lies behind the end is computed too, and left there
    kernels.lion(size, BLOCK * 4, scale, beta1, 1 - beta1, beta2, 1 - beta2, shrink, rate);
    parts[0]!.set(weights.subarray(0, to - from));
    parts[2]!.set(averages.subarray(0, to - from));
  }
}

/** The sum of the squares of all numbers of x, and of `sum`, that of what comes before. */
export function sumOfSquares(x: Float32Array, sum = 0): number {
  const area = new Float32Array(kernels.memory.buffer, 0, 4 * BLOCK);
  for (let from = 0; from < x.length; from += area.length) {
    const part = x.subarray(from, from + area.length);
    area.set(part);
    if (part.length % 4) area.fill(0, part.length, (part.length + 3) & ~3);
    sum += kernels.sumOfSquares(((part.length + 3) >> 2) * 16);
  }
  return sum;
}

/** Byte i of `out` is 1 where half i % 2 of the mixer's number i / 2 for this key is below `keep` (1 to 65535). */
export function keepMask(out: Uint8Array, k0: number, k1: number, keep: number): void {
  for (let from = 0; from < out.length; from += MASK_BLOCK) {
    const count = Math.min(MASK_BLOCK, out.length - from);
    kernels.keepMask((count + 15) & ~15, from / 2, k0, k1, keep);
    out.set(bytes.subarray(0, count), from);
  }
}
