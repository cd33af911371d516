// The safetensors file format (Hugging Face): 8 bytes of header length, a JSON header that gives each tensor's type,
// shape and place, then the tensors' bytes, one after the other. Float32 and int32 tensors.

import { createHash } from "node:crypto";
import { closeSync, fstatSync, openSync, readSync } from "node:fs";

import * as z from "zod/mini";

import { writeFileAtomic } from "./atomic.ts";
import { hasCode, UserError } from "./errors.ts";

export interface NamedTensor {
  name: string;
  shape: readonly number[];
  data: Float32Array | Int32Array;
}

const MAX_HEADER = 100e6; // bytes; the reference implementation's limit

/** A tensor's place in a file. */
const Entry = z.object({
  dtype: z.enum(["F32", "I32"]),
  shape: z.array(z.int().check(z.nonnegative())),
  data_offsets: z.tuple([z.int().check(z.nonnegative()), z.int().check(z.nonnegative())]),
});
export type Entry = z.infer<typeof Entry>;

/** The parts of a file that holds the tensors in this order, to be written one after the other. */
export function encodeSafetensors(
  tensors: readonly NamedTensor[],
  metadata: Record<string, string> = {},
): Uint8Array[] {
  const header: Record<string, Entry | Record<string, string>> = { __metadata__: metadata };
  let at = 0;
  for (const { name, shape, data } of tensors) {
    const dtype = data instanceof Float32Array ? "F32" : "I32";
    header[name] = { dtype, shape: [...shape], data_offsets: [at, at + data.byteLength] };
    at += data.byteLength;
  }
  const json = Buffer.from(JSON.stringify(header));
  const padding = Buffer.alloc(-json.length & 7, " "); // the tensors start at a multiple of 8
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length + padding.length));
  const bytes = tensors.map(({ data }) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return [length, json, padding, ...bytes];
}

/** Write a safetensors file, whole or not at all. */
export function writeSafetensors(path: string, tensors: readonly NamedTensor[]): void {
  writeFileAtomic(path, ...encodeSafetensors(tensors));
}

/** An open safetensors file whose header has been checked. Close it after use. */
export class SafetensorsFile {
  readonly path: string;
  readonly size: number;
  readonly entries: ReadonlyMap<string, Entry>;
  readonly #file: number;
  readonly #start: number; // of the tensors' bytes

  /** @throws UserError where there is no such file, or its header is not what the format says */
  constructor(path: string) {
    this.path = path;
    try {
      this.#file = openSync(path, "r");
    } catch (error) {
      throw hasCode(error, "ENOENT") ? new UserError(`no file ${path}`) : error;
    }
    try {
      const stat = fstatSync(this.#file);
      if (!stat.isFile()) throw this.#broken("it is not a file");
      this.size = stat.size;
      const length = this.size >= 8 ? Number(this.#bytes(0, 8).readBigUInt64LE()) : 0;
      if (length < 2 || length > MAX_HEADER || 8 + length > this.size) throw this.#broken("its header is cut off");
      this.#start = 8 + length;
      this.entries = this.#checkHeader(this.#bytes(8, length).toString());
    } catch (error) {
      this.close();
      throw error;
    }
  }

  #bytes(at: number, length: number): Buffer {
    const bytes = Buffer.alloc(length);
    this.#read(bytes, at);
    return bytes;
  }

  #read(into: Uint8Array, at: number): void {
    for (let done = 0; done < into.length; ) {
      const count = readSync(this.#file, into, done, Math.min(into.length - done, 1 << 30), at + done);
      if (count === 0) throw this.#broken("it ends too early");
      done += count;
    }
  }

  #broken(why: string): UserError {
    return new UserError(`${this.path} is not a whole safetensors file: ${why}`);
  }

  /** Every tensor lies in the file, has the bytes that its shape needs, and no two overlap. */
  #checkHeader(json: string): Map<string, Entry> {
    let header: unknown;
    try {
      header = JSON.parse(json);
    } catch {
      throw this.#broken("its header is not JSON");
    }
    if (typeof header !== "object" || header === null || Array.isArray(header))
      throw this.#broken("its header is not an object");
    const entries = new Map<string, Entry>();
    for (const [name, value] of Object.entries(header)) {
      if (name === "__metadata__") continue;
      const { success, data: entry } = Entry.safeParse(value);
      if (!success) throw this.#broken(`the entry of ${name} is not a float32 or int32 tensor's`);
      const [begin, end] = entry.data_offsets;
      const size = entry.shape.reduce((product, size) => product * size, 4);
      if (end - begin !== size) throw this.#broken(`${name} [${entry.shape}] has ${end - begin} bytes, not ${size}`);
      entries.set(name, entry);
    }
    let at = 0;
    for (const [name, entry] of [...entries].sort(([, a], [, b]) => a.data_offsets[0] - b.data_offsets[0])) {
      if (entry.data_offsets[0] !== at) throw this.#broken(`${name} overlaps another tensor or leaves a gap`);
      at = entry.data_offsets[1];
    }
    if (this.#start + at !== this.size) throw this.#broken("its length is not what its header says");
    return entries;
  }

  /**
   * Read a tensor into an array of its length.
   * @throws UserError where the file has no such tensor, or it has another shape
   */
  read(name: string, shape: readonly number[], into: Float32Array | Int32Array): void {
    const entry = this.entries.get(name);
    if (!entry) throw new UserError(`${this.path} has no tensor ${name}`);
    if (String(entry.shape) !== String(shape) || (entry.dtype === "F32") !== into instanceof Float32Array) {
      throw new UserError(`${this.path} has ${name} as ${entry.dtype} [${entry.shape}], not [${shape}]`);
    }
    this.#read(new Uint8Array(into.buffer, into.byteOffset, into.byteLength), this.#start + entry.data_offsets[0]);
  }

  /** SHA-256 of the whole file, in hexadecimal digits. */
  checksum(): string {
    const hash = createHash("sha256");
    const chunk = Buffer.alloc(Math.min(this.size, 1 << 22));
    for (let at = 0; at < this.size; at += chunk.length) {
      const part = chunk.subarray(0, Math.min(chunk.length, this.size - at));
      this.#read(part, at);
      hash.update(part);
    }
    return hash.digest("hex");
  }

  close(): void {
    closeSync(this.#file);
  }
}
