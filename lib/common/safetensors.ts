// The safetensors file format (Hugging Face): 8 bytes of header length, a JSON header that gives each tensor's type,
// shape and offsets, then the tensors' bytes in sequence. Reads one file or a folder of shards; a header is checked completely
// before anything is allocated by its sizes. Writes float32 and int32 only.

import { createHash } from "node:crypto";
import { closeSync, existsSync, readSync } from "node:fs";
import { join } from "node:path";
import { writeFileAtomic } from "./atomic.ts";
import { breathe } from "./breathe.ts";
import { UserError } from "./errors.ts";
import { printable } from "./printable.ts";
import { openFile, readBytes, statOf } from "./read_file.ts";
import { z } from "./zod.ts";

export interface NamedTensor {
  name: string;
  shape: readonly number[];
  data: Float32Array | Int32Array;
}

/** Bits per number of every type in the format. */
const BITS = {
  ...{ BOOL: 8, U8: 8, I8: 8, U16: 16, I16: 16, U32: 32, I32: 32, U64: 64, I64: 64 },
  ...{ BF16: 16, F16: 16, F32: 32, F64: 64, C64: 64 },
  ...{ F8_E4M3: 8, F8_E5M2: 8, F8_E8M0: 8, F8_E4M3FNUZ: 8, F8_E5M2FNUZ: 8, F6_E2M3: 6, F6_E3M2: 6, F4: 4 },
} as const;
export type Dtype = keyof typeof BITS;

/** A tensor's entry in the header. */
export interface TensorInfo {
  readonly dtype: Dtype;
  readonly shape: readonly number[];
}

/** Where a tensor's bytes lie in a file: absolute, in bytes; not always a multiple of 4. */
export interface Place {
  path: string;
  offset: number;
  bytes: number;
}

/** Tensors on disk, in one file or several. Close them after use. */
export interface Tensors {
  readonly path: string;
  readonly entries: ReadonlyMap<string, TensorInfo>;
  /**
   * Read a tensor into an array of its length: F32, F16, BF16 and F64 into float32, I32 into int32.
   * @throws UserError if there is no such tensor, or its shape or type differs
   */
  read(name: string, shape: readonly number[], into: Float32Array | Int32Array): void;
  /** Where a float32 tensor lies; undefined for another type, or if there is no such tensor. */
  place(name: string): Place | undefined;
  close(): void;
}

const MAX_HEADER = 100e6; // bytes; the reference implementation's limit
const PIECE = 1 << 22; // bytes read at a time if they have to be converted

const Natural = z.int().check(z.nonnegative());

/** A tensor's place in a file. */
const Entry = z.strictObject({
  dtype: z.enum(Object.keys(BITS) as Dtype[]),
  shape: z.array(Natural),
  data_offsets: z.tuple([Natural, Natural]),
});
export type Entry = z.infer<typeof Entry>;

/** The parts of a file with the tensors in this order, to be written in sequence. */
export function encodeSafetensors(
  tensors: readonly NamedTensor[],
  metadata: Record<string, string> = {},
): Uint8Array[] {
  let at = 0;
  const entries = tensors.map(({ name, shape, data }): [string, Entry] => {
    const begin = at;
    at += data.byteLength;
    const dtype = data instanceof Float32Array ? "F32" : "I32";
    return [name, { dtype, shape: [...shape], data_offsets: [begin, at] }];
  });
  // fromEntries, as header["__proto__"] = ... would not add a key
  const json = Buffer.from(JSON.stringify(Object.fromEntries([["__metadata__", metadata], ...entries])));
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

/**
 * Open a .safetensors file, or a folder with model.safetensors or with model.safetensors.index.json and its shards.
 * @throws UserError if there is none, or one of the files is invalid
 */
export function openSafetensors(path: string): Tensors {
  if (!statOf(path)?.isDirectory()) return new SafetensorsFile(path);
  const whole = join(path, "model.safetensors");
  if (existsSync(whole)) return new SafetensorsFile(whole);
  const index = join(path, "model.safetensors.index.json");
  if (existsSync(index)) return new Shards(path, index);
  throw new UserError(`no model.safetensors in ${path}, and no model.safetensors.index.json`);
}

/** An open safetensors file whose header has been checked. Close it after use. */
export class SafetensorsFile implements Tensors {
  readonly path: string;
  readonly size: number;
  readonly entries: ReadonlyMap<string, Entry>;
  readonly #file: number;
  readonly #start: number; // of the tensors' bytes

  /** @throws UserError if there is no such file, or its header is invalid */
  constructor(path: string) {
    this.path = path;
    const opened = openFile(path);
    if (!opened) throw new UserError(`no file ${printable(path)}`);
    this.#file = opened.file;
    try {
      this.size = opened.stat.size;
      const length = this.size >= 8 ? Number(this.#bytes(0, 8).readBigUInt64LE()) : 0;
      if (length < 2 || length > MAX_HEADER || 8 + length > this.size) throw this.#broken("its header is cut off");
      this.#start = 8 + length;
      this.entries = this.#checkHeader(this.#bytes(8, length));
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

  /** Check that every tensor is inside the file, has the size of its shape, and that no two overlap. */
  #checkHeader(bytes: Buffer): Map<string, Entry> {
    const header = parseObject(bytes, (why) => this.#broken(`its header ${why}`));
    const entries = new Map<string, Entry>();
    for (const [name, value] of Object.entries(header)) {
      if (name === "__metadata__") continue;
      const shown = printable(name);
      const { error, data: entry } = Entry.safeParse(value);
      if (error) throw this.#broken(`the entry of ${shown} is not a tensor's: ${explainEntry(error)}`);
      const [begin, end] = entry.data_offsets;
      const size = (countOf(entry.shape) * BITS[entry.dtype]) / 8;
      if (!(size <= Number.MAX_SAFE_INTEGER)) throw this.#broken(`${shown} ${shapeText(entry)} is too large`);
      if (end - begin !== size)
        throw this.#broken(`${shown} ${shapeText(entry)} has ${end - begin} bytes, not ${size}`);
      entries.set(name, entry);
    }
    let at = 0;
    const ranges = [...entries].map(([name, entry]) => ({ name, range: entry.data_offsets }));
    ranges.sort(({ range: a }, { range: b }) => a[0] - b[0] || a[1] - b[1]); // an empty one before its neighbour
    for (const { name, range } of ranges) {
      const [begin, end] = range;
      if (begin !== at) throw this.#broken(`${printable(name)} overlaps another tensor or leaves a gap`);
      at = end;
    }
    if (this.#start + at !== this.size) throw this.#broken("its length is not what its header says");
    return entries;
  }

  read(name: string, shape: readonly number[], into: Float32Array | Int32Array): void {
    const shown = printable(name);
    const entry = this.entries.get(name);
    if (!entry) throw new UserError(`${this.path} has no tensor ${shown}`);
    const { dtype } = entry;
    const kind = FLOATS.has(dtype) ? Float32Array : dtype === "I32" ? Int32Array : undefined;
    if (!kind) throw new UserError(`${this.path} has ${shown} as ${dtype}, which can't be read here`);
    if (String(entry.shape) !== String(shape) || !(into instanceof kind)) {
      throw new UserError(`${this.path} has ${shown} as ${dtype} ${shapeText(entry)}, not [${shape}]`);
    }
    if (into.length !== countOf(shape)) throw new Error(`internal: [${shape}] into an array of ${into.length}`);
    const at = this.#start + entry.data_offsets[0];
    if (dtype === "F32" || into instanceof Int32Array) {
      this.#read(new Uint8Array(into.buffer, into.byteOffset, into.byteLength), at);
      return;
    }
    const width = BITS[dtype] / 8;
    const piece = Buffer.alloc(Math.min(into.length * width, PIECE));
    for (let done = 0; done < into.length; ) {
      const count = Math.min(piece.length / width, into.length - done);
      const part = piece.subarray(0, count * width);
      this.#read(part, at + done * width);
      widen(part, dtype, into.subarray(done, done + count));
      done += count;
    }
  }

  place(name: string): Place | undefined {
    const entry = this.entries.get(name);
    if (entry?.dtype !== "F32") return undefined;
    const [begin, end] = entry.data_offsets;
    return { path: this.path, offset: this.#start + begin, bytes: end - begin };
  }

  /** SHA-256 of the whole file, in hexadecimal digits. */
  async checksum(): Promise<string> {
    const hash = createHash("sha256");
    const chunk = Buffer.alloc(Math.min(this.size, PIECE));
    for (let at = 0; at < this.size; at += chunk.length) {
      const part = chunk.subarray(0, Math.min(chunk.length, this.size - at));
      await breathe();
      this.#read(part, at);
      hash.update(part);
    }
    return hash.digest("hex");
  }

  close(): void {
    closeSync(this.#file);
  }
}

/** The shards that an index names, together. */
class Shards implements Tensors {
  readonly path: string;
  readonly entries = new Map<string, TensorInfo>();
  readonly #shardOf = new Map<string, SafetensorsFile>(); // by tensor
  readonly #files = new Map<string, SafetensorsFile>(); // by name

  constructor(folder: string, index: string) {
    this.path = folder;
    const broken = (why: string) => new UserError(`${index} is not a safetensors index: it ${why}`);
    const { weight_map } = parseObject(readBytes(index, { most: MAX_HEADER }) ?? Buffer.alloc(0), broken);
    if (typeof weight_map !== "object" || weight_map === null) throw broken("has no weight_map");
    try {
      for (const [name, shard] of Object.entries(weight_map)) {
        const shown = printable(name);
        if (typeof shard !== "string" || !/^[^/\\:\0]+$/.test(shard) || shard === "." || shard === "..") {
          throw broken(
            `names no file of this folder for ${shown}: ${printable(typeof shard === "string" ? shard : JSON.stringify(shard))}`,
          );
        }
        const file = this.#files.get(shard) ?? this.#open(join(folder, shard), index);
        this.#files.set(shard, file);
        if (!file.entries.has(name))
          throw new UserError(`${file.path} has no tensor ${shown}, which ${index} says it has`);
      }
      for (const file of this.#files.values()) {
        for (const [name, entry] of file.entries) {
          const other = this.#shardOf.get(name);
          if (other) throw new UserError(`${other.path} and ${file.path} both have a tensor ${printable(name)}`);
          this.#shardOf.set(name, file);
          this.entries.set(name, entry);
        }
      }
    } catch (error) {
      this.close();
      throw error;
    }
  }

  #open(path: string, index: string): SafetensorsFile {
    if (!existsSync(path)) throw new UserError(`no file ${printable(path)}, a shard that ${index} names`);
    return new SafetensorsFile(path);
  }

  read(name: string, shape: readonly number[], into: Float32Array | Int32Array): void {
    const file = this.#shardOf.get(name);
    if (!file) throw new UserError(`${this.path} has no tensor ${printable(name)}`);
    file.read(name, shape, into);
  }

  place(name: string): Place | undefined {
    return this.#shardOf.get(name)?.place(name);
  }

  close(): void {
    for (const file of this.#files.values()) file.close();
  }
}

// ---- numbers -----------------------------------------------------------------------------------------------------

const FLOATS: ReadonlySet<Dtype> = new Set(["F32", "F16", "BF16", "F64"]);

/** NaN or above 2^53 if the product of the sizes overflows, even if a later size is 0. */
function countOf(shape: readonly number[]): number {
  let count = 1;
  for (const size of shape) {
    count *= size;
    if (count > Number.MAX_SAFE_INTEGER) return count;
  }
  return count;
}

/** Convert numbers of another float type, as stored in a file, to float32. Exact for F16 and BF16, NaNs included. */
function widen(bytes: Buffer, dtype: Dtype, into: Float32Array): void {
  if (dtype === "F64") {
    into.set(new Float64Array(bytes.buffer, bytes.byteOffset, into.length));
    return;
  }
  const from = new Uint16Array(bytes.buffer, bytes.byteOffset, into.length);
  const bits = new Uint32Array(into.buffer, into.byteOffset, into.length); // a float copy might change a NaN's bits
  if (dtype === "BF16") {
    for (let i = 0; i < bits.length; i++) bits[i] = from[i]! << 16;
  } else {
    halves ??= Uint32Array.from({ length: 1 << 16 }, (_, half) => bitsOfHalf(half));
    for (let i = 0; i < bits.length; i++) bits[i] = halves[from[i]!]!;
  }
}

let halves: Uint32Array | undefined; // the bits of every float16 as a float32

/** 1 sign, 5 exponent (bias 15) and 10 fraction bits as 1, 8 (bias 127) and 23. */
function bitsOfHalf(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 31) return sign | 0x7f800000 | (fraction << 13); // infinity, NaN
  if (exponent > 0) return sign | ((exponent + 112) << 23) | (fraction << 13);
  if (fraction === 0) return sign;
  const shift = Math.clz32(fraction) - 21; // below 2^-14: shifted until the leading 1 is the implied one
  return sign | ((113 - shift) << 23) | (((fraction << shift) & 1023) << 13);
}

// ---- foreign text ------------------------------------------------------------------------------------------------

/** Parse `bytes` as a JSON object. `broken` makes the error from "is not JSON" and the like. */
function parseObject(bytes: Buffer, broken: (why: string) => UserError): Record<string, unknown> {
  if (bytes[0] !== "{".charCodeAt(0)) throw broken("is not an object");
  let value: unknown;
  let twice: string | undefined;
  try {
    const json = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    twice = repeatedKey(json);
    value = JSON.parse(json);
  } catch (error) {
    if (error instanceof RangeError) throw broken(error.message);
    throw broken(error instanceof TypeError ? "is not UTF-8" : "is not JSON");
  }
  if (twice !== undefined) throw broken(`has ${printable(twice)} twice`);
  return value as Record<string, unknown>;
}

/**
 * A key that occurs twice in an object of this text (JSON.parse would keep the last), however it is escaped.
 * @throws SyntaxError for some texts that are not JSON; JSON.parse refuses the others
 * @throws RangeError if it is nested deeper than a header or an index can be
 */
function repeatedKey(json: string): string | undefined {
  const open: Set<string>[] = []; // the keys of the objects that are open
  let text = "";
  for (let i = 0; i < json.length; i++) {
    const character = json[i];
    if (character === '"') {
      const start = i;
      for (i++; i < json.length && json[i] !== '"'; i++) if (json[i] === "\\") i++;
      text = json.slice(start, i + 1);
    } else if (character === "{" || character === "[") {
      if (open.length === 3) throw new RangeError("is nested deeper than the format goes");
      open.push(new Set());
    } else if (character === "}" || character === "]") {
      open.pop();
    } else if (character === ":") {
      const key: string = JSON.parse(text);
      const keys = open.at(-1);
      if (keys?.has(key)) return key;
      keys?.add(key);
    }
  }
  return undefined;
}

/** The first problem of an entry. */
function explainEntry({ issues: [issue] }: z.core.$ZodError): string {
  return printable(`${issue!.path.join(".")} ${issue!.message}`.trim());
}

function shapeText({ shape }: TensorInfo): string {
  return printable(`[${shape}]`);
}
