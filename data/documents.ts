// Documents out of files of any size, in pieces that can be read one without the other, so that several threads work on
// one file and an interrupted run goes on in the middle of it:
//   .txt      one document; a piece ends where the tokens on both sides are those of the whole
//   .jsonl    a document a line, {"text": "..."}; a piece is some whole lines
//   .parquet  a document a row, the column "text"; a piece is a row group
// Where pieces end depends on the files alone. Leaves out files whose single lines or words don't fit into memory.

import { closeSync, readdirSync, readSync, type Stats, statSync } from "node:fs";
import { extname, join, resolve } from "node:path";

import type { FileMetaData, SchemaTree } from "hyparquet";

import { explain, UserError } from "../engine/errors.ts";
import { printable } from "../engine/printable.ts";
import { openFile } from "../engine/read_file.ts";
import { shownPath } from "./dataset.ts";
import { decodeText } from "./text.ts";

const KINDS = [".txt", ".jsonl", ".parquet"] as const;
type Kind = (typeof KINDS)[number];

const PIECE = 1 << 20; // bytes of text: large enough that handing it over costs nothing
const MAX_PIECE = 1 << 28;
const WINDOW = 1 << 16;

export interface InputFile {
  path: string;
  kind: Kind;
  bytes: number;
  modified: number; // ms since 1970
}

/** A part of a file: documents, of which the last may go on in the next piece. */
export interface Piece {
  path: string;
  kind: Kind;
  start: number; // bytes; rows of a .parquet file
  end: number;
  endsDocument: boolean; // false where a .txt file goes on
  bytes: number; // how much of the file is done with, after this
}

// ---- which files -------------------------------------------------------------------------------------------------

/** The files at `paths`, folders opened (their files sorted by name); a UserError where there are none. */
export function listFiles(paths: readonly string[]): InputFile[] {
  return paths.flatMap((path) => {
    const stat = statOf(path, false);
    if (!stat) throw new UserError(`no file or folder ${path}; --input takes ${KINDS.join(", ")} files and folders`);
    if (!stat.isDirectory()) return [inputFile(path)];
    const names = readdirSync(path, { recursive: true, encoding: "utf8" });
    const files = names.filter((name) => kindOf(name) && statOf(join(path, name))?.isFile()).sort();
    if (files.length === 0) throw new UserError(`no ${KINDS.join(", ")} file in the folder ${path}`);
    return files.map((name) => inputFile(join(path, name)));
  });
}

/** @throws UserError where the system doesn't tell: links in a circle, or to nothing where it `mustBe` there */
function statOf(path: string, mustBe = true): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: mustBe });
  } catch (error) {
    throw explain(error, `can't read ${shownPath(path)}`);
  }
}

function kindOf(path: string): Kind | undefined {
  return KINDS.find((kind) => extname(path).toLowerCase() === kind);
}

function inputFile(path: string): InputFile {
  const kind = kindOf(path);
  if (!kind) throw new UserError(`${path} is none of ${KINDS.join(", ")}; rename it if it holds one of them`);
  const stat = statOf(path)!;
  if (!stat.isFile()) throw new UserError(`${path} is a pipe or a device; give a file`);
  const { size, mtimeMs } = stat;
  return { path: resolve(path), kind, bytes: size, modified: mtimeMs };
}

// ---- where to cut ------------------------------------------------------------------------------------------------

/** The pieces of a file from position `start` on, which is 0 or the end of a piece; some `size` bytes each. */
export async function* piecesOf(file: InputFile, start = 0, size = PIECE): AsyncGenerator<Piece> {
  if (file.kind === ".parquet") yield* rowGroups(file, start);
  else yield* byteRanges(file, start, size);
}

function* byteRanges({ path, kind, bytes }: InputFile, from: number, size: number): Generator<Piece> {
  if (bytes === 0 && kind === ".txt") yield { path, kind, start: 0, end: 0, endsDocument: true, bytes: 0 };
  const file = openInput(path);
  try {
    for (let start = from; start < bytes; ) {
      const end = findCut({ file, path, kind, start, from: start + size, bytes });
      yield { path, kind, start, end, endsDocument: kind !== ".txt" || end === bytes, bytes: end };
      start = end;
    }
  } finally {
    closeSync(file);
  }
}

interface Search {
  file: number;
  path: string;
  kind: Kind;
  start: number; // of the piece
  from: number; // the first place where it may end
  bytes: number; // of the file
}

/** The first place at or after `from` where a piece may end: the start of a line, or of white space in a text. */
function findCut({ file, path, kind, start, from, bytes }: Search): number {
  for (let at = from; at < bytes; at += WINDOW) {
    const before = Math.min(at, 4); // a character before the place
    const window = readBytes(file, path, at - before, Math.min(bytes, at + WINDOW));
    for (let i = before; i < window.length; i++) {
      if (kind === ".jsonl" ? window[i - 1] === 0x0a : startsWhiteSpace(window, i)) return at - before + i;
    }
    if (at - start > MAX_PIECE) {
      const what = kind === ".jsonl" ? "a line" : "a text without white space";
      throw new UserError(`${shownPath(path)} has ${what} of more than 256 MB at byte ${start}; split it`);
    }
  }
  return bytes;
}

/** White space (of ASCII) after something else. GPT-2's words and signs end there, whatever follows, and no run of white
 * space is cut: what is on the left and on the right have the tokens that they have together. */
function startsWhiteSpace(bytes: Buffer, at: number): boolean {
  const byte = bytes[at]!;
  if (byte !== 0x20 && (byte < 0x09 || byte > 0x0d)) return false;
  let start = at - 1;
  while (start > 0 && start > at - 4 && (bytes[start]! & 0xc0) === 0x80) start--; // bytes that continue a character
  return /^\P{White_Space}$/u.test(bytes.toString("utf8", start, at));
}

async function* rowGroups({ path, kind, bytes: size }: InputFile, from: number): AsyncGenerator<Piece> {
  const { metadata } = await openParquet(path);
  const rows = Number(metadata.num_rows);
  let start = 0;
  for (const group of metadata.row_groups) {
    const end = start + Number(group.num_rows);
    const bytes = Math.round((size * end) / rows);
    if (start >= from && end > start) yield { path, kind, start, end, endsDocument: true, bytes };
    start = end;
  }
}

// ---- reading -----------------------------------------------------------------------------------------------------

/** The documents of a piece, or its part of one. A UserError names the file and the place of what can't be used. */
export async function* readPiece(piece: Piece): AsyncGenerator<string> {
  const { path, kind, start, end } = piece;
  if (kind === ".parquet") return yield* readRows(piece);
  const file = openInput(path);
  let bytes: Buffer;
  try {
    bytes = readBytes(file, path, start, end);
  } finally {
    closeSync(file);
  }
  const text = decodeText(bytes, shownPath(path), start);
  if (kind === ".txt") yield text;
  else yield* readLines(piece, text);
}

function* readLines({ path, start }: Piece, text: string): Generator<string> {
  let number = 0;
  for (let at = 0; at < text.length; number++) {
    const newline = text.indexOf("\n", at);
    const end = newline < 0 ? text.length : newline;
    const line = text.slice(at, end);
    at = end + 1;
    if (line.trim() === "") continue;
    const where = () => `${shownPath(path)}, line ${1 + number + countLines(path, start)}`;
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch {
      throw new UserError(`${where()} is not JSON; every line has to be an object with a field "text"`);
    }
    if (typeof value !== "object" || value === null || !("text" in value) || typeof value.text !== "string") {
      throw new UserError(`${where()} has no field "text" that holds a text`);
    }
    yield value.text;
  }
}

/** The newlines among the first `bytes` of a file. */
function countLines(path: string, bytes: number): number {
  const file = openInput(path);
  let count = 0;
  for (let at = 0; at < bytes; at += WINDOW) {
    for (const byte of readBytes(file, path, at, Math.min(bytes, at + WINDOW))) if (byte === 0x0a) count++;
  }
  closeSync(file);
  return count;
}

async function* readRows({ path, start, end }: Piece): AsyncGenerator<string> {
  const { hyparquet, file, metadata } = await openParquet(path);
  const { compressors } = await import("hyparquet-compressors");
  const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  let rows: Record<string, unknown>[];
  try {
    rows = await hyparquet.parquetReadObjects({
      file,
      metadata,
      columns: ["text"],
      rowStart: start,
      rowEnd: end,
      compressors,
      parsers: { stringFromBytes: (bytes) => bytes && strict.decode(bytes) },
    });
  } catch (error) {
    throw unreadable(path, error);
  }
  for (const [i, { text }] of rows.entries()) {
    if (typeof text !== "string") throw new UserError(`${shownPath(path)}, row ${1 + start + i} has no text`);
    yield text;
  }
}

let opened: { path: string; parquet: ReturnType<typeof readFooter> } | undefined;

/** An open .parquet file; the last one is kept, because it is asked for once a row group. */
function openParquet(path: string) {
  if (opened?.path !== path) opened = { path, parquet: readFooter(path) };
  return opened.parquet;
}

async function readFooter(path: string) {
  const hyparquet = await import("hyparquet"); // not needed for the other kinds
  let metadata: FileMetaData;
  let columns: SchemaTree[];
  const file = await hyparquet.asyncBufferFromFile(path);
  try {
    metadata = await hyparquet.parquetMetadataAsync(file);
    columns = hyparquet.parquetSchema(metadata).children;
    checkRows(metadata);
  } catch (error) {
    throw unreadable(path, error);
  }
  const column = columns.find(({ element }) => element.name === "text");
  if (column?.element.type === "BYTE_ARRAY") return { hyparquet, file, metadata };
  const names = printable(columns.map(({ element }) => element.name).join(", "));
  throw new UserError(`${shownPath(path)} has no column "text" of texts; its columns: ${names}`);
}

/** The groups' rows are those of the file: where they aren't, pieces would be cut in the wrong places. */
function checkRows({ num_rows, row_groups }: FileMetaData): void {
  const sum = row_groups.reduce((rows, group) => {
    if (typeof group.num_rows !== "bigint" || group.num_rows < 0n) throw new Error("a row group doesn't say its rows");
    return rows + group.num_rows;
  }, 0n);
  if (sum !== num_rows) throw new Error(`it has ${num_rows} rows, and its row groups ${sum}`);
}

function unreadable(path: string, error: unknown): UserError {
  const reason = error instanceof Error ? error.message : String(error);
  return new UserError(`${shownPath(path)} can't be read as parquet: ${printable(reason.replaceAll(/\s+/g, " "))}`);
}

function openInput(path: string): number {
  const opened = openFile(path, shownPath(path));
  if (!opened) throw new UserError(`${shownPath(path)} went away; start again when it is back`);
  return opened.file;
}

/** Bytes [start, end) of an open file. */
function readBytes(file: number, path: string, start: number, end: number): Buffer {
  const bytes = Buffer.allocUnsafe(end - start);
  for (let done = 0; done < bytes.length; ) {
    const read = readSync(file, bytes, done, bytes.length - done, start + done);
    if (read === 0) throw new UserError(`${shownPath(path)} became shorter while it was read; start again`);
    done += read;
  }
  return bytes;
}
