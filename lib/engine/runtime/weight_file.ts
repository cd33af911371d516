// A file for the constants of a model: ONNX Runtime maps it into memory, where building them into the model would copy
// them several times.

import { closeSync, openSync, writeSync } from "node:fs";

import { explain } from "../../common/errors.ts";
import type { Place } from "../onnx.ts";

const ALIGNMENT = 64; // bytes

export class WeightFile {
  readonly path: string;
  readonly #file: number;
  #size = 0;

  constructor(path: string) {
    this.path = path;
    try {
      this.#file = openSync(path, "w");
    } catch (error) {
      throw explain(error, `can't write the model's weights to ${path}`);
    }
  }

  /** Add an array. @returns its place in the file */
  add(data: Float32Array | Uint8Array): Place {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    const offset = Math.ceil(this.#size / ALIGNMENT) * ALIGNMENT;
    try {
      for (let done = 0; done < bytes.length; ) {
        done += writeSync(this.#file, bytes, done, Math.min(bytes.length - done, 1 << 30), offset + done);
      }
    } catch (error) {
      throw explain(error, `can't write the model's weights to ${this.path}`);
    }
    this.#size = offset + bytes.length;
    return { path: this.path, offset, bytes: bytes.length };
  }

  close(): void {
    closeSync(this.#file);
  }
}
