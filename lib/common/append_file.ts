// A file that a run appends to for hours. If it was moved, removed or replaced meanwhile, its whole contents are written to the
// path again: nothing is lost in a file that no longer has a name.

import { type BigIntStats, closeSync, fstatSync, mkdirSync, openSync, readSync, statSync, writeSync } from "node:fs";
import { dirname } from "node:path";

const CHUNK = 2 ** 20; // bytes that are copied at a time

export class AppendFile {
  readonly #path: string;
  #file: number;
  #identity: BigIntStats;

  /** Open it, or create it and its folder. */
  constructor(path: string) {
    this.#path = path;
    [this.#file, this.#identity] = open(path);
  }

  /**
   * Append a text in one write: a kill between two leaves whole texts.
   * @param restore false to write to the file as it was opened, wherever it is by now
   */
  write(text: string, restore = true): void {
    const there = restore ? statSync(this.#path, { bigint: true, throwIfNoEntry: false }) : this.#identity;
    if (there?.ino !== this.#identity.ino || there.dev !== this.#identity.dev) this.#restore();
    writeWhole(this.#file, Buffer.from(text));
  }

  /** Does it end in the middle of a line, as a kill or a full disk leaves it? */
  get isCut(): boolean {
    const { size } = fstatSync(this.#file);
    const last = Buffer.alloc(1);
    return size > 0 && readSync(this.#file, last, 0, 1, size - 1) === 1 && last.toString() !== "\n";
  }

  close(): void {
    closeSync(this.#file);
  }

  /** The open file is not the one at the path: the latter gets what it lacks of the former. */
  #restore(): void {
    const old = this.#file;
    [this.#file, this.#identity] = open(this.#path);
    const theirs = fstatSync(this.#file).size;
    const size = fstatSync(old).size;
    for (const part of chunks(old, isPrefix(this.#file, theirs, old) ? theirs : 0, size)) writeWhole(this.#file, part);
    closeSync(old);
  }
}

function open(path: string): [number, BigIntStats] {
  mkdirSync(dirname(path), { recursive: true });
  const file = openSync(path, "a+");
  return [file, fstatSync(file, { bigint: true })];
}

/** The bytes from `from` to `end`, a chunk at a time. */
function* chunks(file: number, from: number, end: number): Generator<Buffer, void> {
  for (let at = from; at < end; at += CHUNK) yield read(file, at, Math.min(CHUNK, end - at));
}

/** Are the `length` bytes of `file` those that `whole` begins with? */
function isPrefix(file: number, length: number, whole: number): boolean {
  let at = 0;
  for (const part of chunks(file, 0, length)) {
    if (!part.equals(read(whole, at, part.length))) return false;
    at += part.length;
  }
  return true;
}

function read(file: number, at: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  return bytes.subarray(0, readSync(file, bytes, 0, length, at));
}

function writeWhole(file: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done);
}
