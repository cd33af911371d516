// Dropout masks, the only heavy loop of a step outside ONNX Runtime, with SIMD: lib/common/kernels.wat, run by V8 like any
// WebAssembly. A mask is copied out of WebAssembly's memory block by block, so it can be anywhere and of any size.
//
// kernels.wasm is kernels.wat assembled by the package wabt; `npm run kernels` does it, and a test checks it.

import { readFileSync } from "node:fs";

const MASK_BLOCK = 1 << 15; // bytes

// the used part of the global; its types come with the browser's library only
declare const WebAssembly: {
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object) => { exports: unknown };
};

interface Kernels {
  memory: { buffer: ArrayBuffer };
  keepMask(bytes: number, first: number, k0: number, k1: number, keep: number): void;
}

const module = new WebAssembly.Module(readFileSync(new URL("kernels.wasm", import.meta.url)));
const kernels = new WebAssembly.Instance(module).exports as Kernels;
const bytes = new Uint8Array(kernels.memory.buffer);

/** Byte i of `out` is 1 where half i % 2 of the mixer's number i / 2 for this key is below `keep` (1 to 65535). */
export function keepMask(out: Uint8Array, k0: number, k1: number, keep: number): void {
  for (let from = 0; from < out.length; from += MASK_BLOCK) {
    const count = Math.min(MASK_BLOCK, out.length - from);
    kernels.keepMask((count + 15) & ~15, from / 2, k0, k1, keep);
    out.set(bytes.subarray(0, count), from);
  }
}
