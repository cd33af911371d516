// Token files in nanoGPT's format: one unsigned 16-bit little-endian number per token, nothing else. Blocks are read on demand, in constant
// memory. Left out: the meaning of tokens (meta.ts).

import { closeSync, readSync } from "node:fs";

import { writeFileAtomic } from "../common/atomic.ts";
import { UserError } from "../common/errors.ts";
import { openFile } from "../common/read_file.ts";
import { prepareHint, shownPath } from "./dataset.ts";

export const BYTES_PER_TOKEN = 2;
const BUFFER_TOKENS = 32_768;
const SCANNED_TOKENS = 2 ** 27; // 256 MiB, which take about half a second

/** An open token file. */
export class TokenFile {
  readonly path: string;
  readonly length: number; // in tokens
  /** Tokens from here on are invalid: reading one is an error. */
  vocabSize = 65_536;
  readonly #file: number;
  readonly #bytes = new Uint8Array(BUFFER_TOKENS * BYTES_PER_TOKEN);
  readonly #numbers = new Uint16Array(this.#bytes.buffer);

  /** Opens `path`. @throws UserError if it is missing, empty or has an odd size */
  constructor(path: string) {
    this.path = path;
    const opened = openFile(path, shownPath(path));
    if (!opened) throw new UserError(`no ${shownPath(path)}; ${prepareHint(path)}`);
    this.#file = opened.file;
    const { size } = opened.stat;
    this.length = size / BYTES_PER_TOKEN;
    const fault = faultOf(size);
    if (fault === undefined) return;
    this.close();
    throw new UserError(`${shownPath(path)} ${fault}; ${prepareHint(path)}`);
  }

  /** Tokens [start, start + count) of the file -> `into` [at, at + count). */
  read(start: number, count: number, into: Int32Array, at = 0): void {
    if (!(start >= 0 && start + count <= this.length && at >= 0 && at + count <= into.length)) {
      throw new RangeError(`internal: tokens ${start} + ${count} of ${this.length}, to ${at} of ${into.length}`);
    }
    for (let done = 0; done < count; done += BUFFER_TOKENS) {
      const tokens = this.#checked(start + done, Math.min(count - done, BUFFER_TOKENS));
      into.set(tokens, at + done);
    }
  }

  /** Check for a token outside the vocabulary, before hours of training; a file beyond 256 MiB is checked by `read`.
   * @throws UserError for the first one */
  scan(): void {
    if (this.vocabSize >= 65_536 || this.length > SCANNED_TOKENS) return;
    for (let at = 0; at < this.length; at += BUFFER_TOKENS) {
      this.#checked(at, Math.min(BUFFER_TOKENS, this.length - at));
    }
  }

  /** The tokens [start, start + count), at most a buffer's, valid until the next call. */
  #checked(start: number, count: number): Uint16Array {
    this.#fill(count * BYTES_PER_TOKEN, start * BYTES_PER_TOKEN);
    if (!LITTLE_ENDIAN) Buffer.from(this.#bytes.buffer).swap16();
    const [numbers, limit] = [this.#numbers, this.vocabSize];
    for (let i = 0; i < count; i++) {
      if (numbers[i]! >= limit) throw this.#unknown(numbers[i]!, start + i);
    }
    return numbers.subarray(0, count);
  }

  #unknown(token: number, index: number): UserError {
    const [at, size] = [index, this.vocabSize].map((number) => number.toLocaleString("en-US"));
    return new UserError(
      `${shownPath(this.path)} has the token ${token} at index ${at}, and the vocabulary has ${size} tokens, ` +
        `0 to ${this.vocabSize - 1}; ${prepareHint(this.path)}, or say the right vocab_size, in its meta.json or by --vocab_size where it has none`,
    );
  }

  /** Bytes [position, position + bytes) of the file -> the buffer. The system may return them in several parts. */
  #fill(bytes: number, position: number): void {
    for (let done = 0; done < bytes; ) {
      const read = readSync(this.#file, this.#bytes, done, bytes - done, position + done);
      if (read === 0) throw new UserError(`${shownPath(this.path)} became shorter while it was read; start again`);
      done += read;
    }
  }

  close(): void {
    closeSync(this.#file);
  }
}

function faultOf(size: number): string | undefined {
  if (size === 0) return "is empty";
  if (size % BYTES_PER_TOKEN !== 0) return `has ${size} bytes: an odd number, so it was cut off`;
  return undefined;
}

/** Write `tokens` as the token file `path`, whole or not at all. */
export function writeTokens(path: string, tokens: Uint16Array): void {
  writeFileAtomic(path, tokenBytes(tokens));
}

/** Tokens in a token file's byte order; on most machines the same memory. */
export function tokenBytes(tokens: Uint16Array): Uint8Array {
  const bytes = Buffer.from(tokens.buffer, tokens.byteOffset, tokens.byteLength);
  return LITTLE_ENDIAN ? bytes : Buffer.from(bytes).swap16();
}

const LITTLE_ENDIAN = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

/** The shape of a batch. */
export interface BatchShape {
  B: number; // rows, the batch size
  T: number; // tokens in a row, the block size
}

/** One batch: rows of T tokens from random positions -> x [B*T], and each one's next token -> y [B*T].
 * Row b starts at floor(uniform(b) * (length - T)), where uniform(b) is in [0, 1): nanoGPT's range, in which the file's last
 * token is only a target. @throws UserError if the file is too short for a row */
export function sampleBatch(
  file: TokenFile,
  { B, T }: BatchShape,
  uniform: (row: number) => number,
  x: Int32Array,
  y: Int32Array,
): void {
  sampleRows(file, { B, T }, uniform, x, (start, b) => file.read(start + 1, T, y, b * T));
}

/** The same without targets: rows of T tokens -> x [B*T]. @param more called with each row's offset in the file */
export function sampleRows(
  file: TokenFile,
  { B, T }: BatchShape,
  uniform: (row: number) => number,
  x: Int32Array,
  more?: (start: number, row: number) => void,
): void {
  checkBlockSize(file, T);
  for (let b = 0; b < B; b++) {
    const start = Math.floor(uniform(b) * (file.length - T));
    file.read(start, T, x, b * T);
    more?.(start, b);
  }
}

/** Check before any work starts. @throws UserError if `file` is too short for rows of `spans` times `T` tokens */
export function checkBlockSize(file: TokenFile, T: number, spans = 1): void {
  if (file.length > spans * T) return;
  const most = Math.floor((file.length - 1) / spans);
  const advice = most > 0 ? `use --block_size=${most} or smaller, or prepare a longer text` : "prepare a longer text";
  throw new UserError(`${shownPath(file.path)} has ${file.length} tokens, too few for --block_size=${T}; ${advice}`);
}
