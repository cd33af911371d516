// Reads documents from files of any size, in pieces that are independent of each other, so that several threads work on one file and an
// interrupted run continues in the middle of it:
//   .txt .md   one document, or what is between separators; a piece ends where the tokens on both sides are those of
//              the whole
//   .jsonl     a document per line; a piece is some whole lines
//   .json      a document per element of the list, or per value of a sequence
//   .csv       a document per record; the first one has the fields' names
//   .parquet   a document per row; a piece is some pages of a row group
// All but texts have it in one field. Pieces depend only on the files. Left out: files with lines or words that don't fit into
// memory.

import { closeSync } from "node:fs";

import { UserError } from "../common/errors.ts";
import { fieldText, nextRecord, readHeader } from "./csv.ts";
import { shownPath } from "./dataset.ts";
import { END_OF_TEXT } from "./end_of_text.ts";
import { type InputFile, isText, openInput, readBytes, withInput } from "./input_files.ts";
import { listStart, nextValue } from "./json_values.ts";
import { readRows, rowRanges } from "./parquet.ts";
import { missing, type Row, rowOf } from "./rows.ts";
import { decodeText, isSpace, unixLineEnds } from "./text.ts";

const PIECE = 1 << 20; // bytes of text: large enough that the overhead doesn't matter
const MAX_PIECE = 1 << 28;
const WINDOW = 1 << 16;

/** How documents are found in files; the scripts that read some spread it into their settings. */
export const READING = {
  field: "text", // of .jsonl, .json, .csv and .parquet: the field that has the text
  separator: "", // between documents of .txt and .md, such as <|endoftext|>; each is one document if empty. \n, \t and \uXXXX are understood
  skip_bad: false, // leave out rows without a text, and count them; else they are errors
  keep_crlf: false, // leave line ends \r\n and \r as they are; else they become \n
};
export type Reading = Readonly<typeof READING>;

/** A part of a file: documents, of which the first may have begun before it and the last may continue in the next piece. */
export interface Piece extends InputFile {
  start: number; // bytes; rows of a .parquet file
  end: number;
  startsDocument: boolean; // false if it began in the piece before
  endsDocument: boolean; // false if it continues after the piece
  done: number; // bytes of the file that are processed after this piece
}

/** A document, or a part of one. */
export interface Part {
  text: string;
  ends: boolean; // the document
}

/** What to report about the documents. */
export interface Tally {
  line_ends: number; // that became \n
  bad: number; // rows without a text that were left out
  first_bad: string; // where the first one is, and its content
  end_of_text: number; // how often <|endoftext|> was read as text
}

export const noTally = (): Tally => ({ line_ends: 0, bad: 0, first_bad: "", end_of_text: 0 });

export function addTally(to: Tally, more: Tally): void {
  to.line_ends += more.line_ends;
  to.bad += more.bad;
  to.first_bad ||= more.first_bad;
  to.end_of_text += more.end_of_text;
}

// ---- where to cut ------------------------------------------------------------------------------------------------

/** The pieces of a file from position `start` on, which is 0 or the end of a piece; some `size` bytes each. */
export async function* piecesOf(file: InputFile, reading = READING, start = 0, size = PIECE): AsyncGenerator<Piece> {
  const whole = { startsDocument: true, endsDocument: true };
  if (file.kind === ".parquet") {
    for await (const { bytes, ...range } of rowRanges(file, reading.field, start, size)) {
      yield { ...file, ...range, ...whole, done: bytes };
    }
  } else if (isText(file.kind)) yield* textPieces(file, reading, start, size);
  else if (file.bytes > 0) {
    const handle = openInput(file.path);
    try {
      const next = nextRow(handle, file, reading);
      for (let at = start; at < file.bytes; ) {
        const end = findEnd(handle, file, at, size, next);
        yield { ...file, start: at, end, ...whole, done: end };
        at = end;
      }
    } finally {
      closeSync(handle);
    }
  }
}

/** The end of the row at an offset of some bytes; undefined if they end within it. `offset` is theirs in the file. */
type NextRow = (bytes: Buffer, from: number, offset: number, atEnd: boolean) => number | undefined;

function nextRow(handle: number, file: InputFile, reading: Reading): NextRow {
  if (file.kind === ".jsonl") {
    return (bytes, from, _, atEnd) => {
      const newline = bytes.indexOf(0x0a, from);
      return newline >= 0 ? newline + 1 : atEnd ? bytes.length : undefined;
    };
  }
  if (file.kind === ".csv") {
    const { delimiter } = tableOf(handle, file, reading);
    return (bytes, from, _, atEnd) => nextRecord(bytes, from, delimiter, atEnd)?.end;
  }
  const { start } = listStart(readBytes(handle, file.path, 0, Math.min(file.bytes, WINDOW)));
  return (bytes, from, offset, atEnd) => {
    const value = nextValue(bytes, Math.max(from, start - offset), atEnd);
    return value === null ? bytes.length : value?.end;
  };
}

/** The end of the first row at or after start + size. */
function findEnd(
  handle: number,
  { path, bytes: length }: InputFile,
  start: number,
  size: number,
  next: NextRow,
): number {
  for (let more = WINDOW; ; more *= 2) {
    const atEnd = start + size + more >= length;
    const bytes = readBytes(handle, path, start, atEnd ? length : start + size + more);
    let at: number | undefined = 0;
    while (at !== undefined && at < Math.min(size, bytes.length)) at = next(bytes, at, start, atEnd);
    if (at !== undefined) return start + at;
    if (more > MAX_PIECE) {
      throw new UserError(`${shownPath(path)} has a row of more than 256 MB after byte ${start}; split it`);
    }
  }
}

function* textPieces(file: InputFile, { separator }: Reading, from: number, size: number): Generator<Piece> {
  const { bytes } = file;
  if (bytes === 0) yield { ...file, start: 0, end: 0, startsDocument: true, endsDocument: true, done: 0 };
  const handle = openInput(file.path);
  try {
    const separators = separator === "" ? [] : separatorsIn(file, separator);
    const longest = Math.max(0, ...separators.map(({ length }) => length));
    const behindSeparator = (at: number) => {
      const before = readBytes(handle, file.path, Math.max(0, at - longest), at);
      return separators.some((found) => before.subarray(-found.length).equals(found));
    };
    for (let start = from; start < bytes; ) {
      const end = findCut(handle, file, start, start + size, separators);
      const startsDocument = start === 0 || behindSeparator(start);
      yield { ...file, start, end, startsDocument, endsDocument: end === bytes, done: end };
      start = end;
    }
  } finally {
    closeSync(handle);
  }
}

/** The forms of a separator in a file: in its encoding, with each kind of line ends. */
function separatorsIn({ encoding }: InputFile, separator: string): Buffer[] {
  const forms = new Set(["\n", "\r\n", "\r"].map((end) => separator.replaceAll("\n", end)));
  return [...forms].map((form) => {
    if (encoding === "utf-8") return Buffer.from(form);
    const bytes = Buffer.from(form, "utf16le");
    return encoding === "utf-16le" ? bytes : bytes.swap16();
  });
}

/** The first offset at or after `from` where a text may be split: the start of white space, but not inside a separator. */
function findCut(handle: number, file: InputFile, start: number, from: number, separators: readonly Buffer[]): number {
  const { path, bytes, encoding } = file;
  const unit = encoding === "utf-8" ? 1 : 2;
  const reach = Math.max(4, ...separators.map(({ length }) => length)); // bytes to look at around an offset
  for (let at = from + (from % unit); at < bytes; at += WINDOW) {
    const before = Math.min(at, reach);
    const window = readBytes(handle, path, at - before, Math.min(bytes, at + WINDOW + reach));
    const last = Math.min(window.length, before + WINDOW);
    for (let i = before; i < last; i += unit) {
      const starts = unit === 1 ? startsWhiteSpace(window, i) : startsWhiteSpace16(window, i, encoding);
      if (starts && !separators.some((separator) => isWithin(window, i, separator))) return at - before + i;
    }
    if (at - start > MAX_PIECE) {
      throw new UserError(
        `${shownPath(path)} has a text without white space of more than 256 MB at byte ${start}; split it`,
      );
    }
  }
  return bytes;
}

/** Is the offset `at` inside a separator? */
function isWithin(bytes: Buffer, at: number, separator: Buffer): boolean {
  const around = bytes.subarray(Math.max(0, at - separator.length + 1), at + separator.length - 1);
  return around.includes(separator);
}

/** White space (of ASCII) after something else. GPT-2's words and signs end there, whatever follows, and no run of
 * white space is split: both sides have the same tokens as together. */
function startsWhiteSpace(bytes: Buffer, at: number): boolean {
  if (!isSpace(bytes[at])) return false;
  let start = at - 1;
  while (start > 0 && start > at - 4 && (bytes[start]! & 0xc0) === 0x80) start--; // bytes that continue a character
  return NO_SPACE.test(bytes.toString("utf8", start, at));
}

/** The same in UTF-16, where white space is always one unit of two bytes. */
function startsWhiteSpace16(bytes: Buffer, at: number, encoding: InputFile["encoding"]): boolean {
  const unit = (at: number) => (encoding === "utf-16le" ? bytes.readUInt16LE(at) : bytes.readUInt16BE(at));
  if (at < 2 || at + 2 > bytes.length || !isSpace(unit(at))) return false;
  return NO_SPACE.test(String.fromCharCode(unit(at - 2)));
}

const NO_SPACE = /^\P{White_Space}$/u;

// ---- reading -----------------------------------------------------------------------------------------------------

/** The documents of a piece, or its parts of them. A UserError names the file and the position of a fault.
 * @param tally is updated */
export async function* readPiece(piece: Piece, reading = READING, tally = noTally()): AsyncGenerator<Part> {
  const prepared = (text: string): string => {
    tally.end_of_text += text.split(END_OF_TEXT).length - 1;
    if (reading.keep_crlf) return text;
    const unix = unixLineEnds(text);
    tally.line_ends += unix.replaced;
    return unix.text;
  };
  if (isText(piece.kind)) {
    yield* partsOf(piece, prepared(readText(piece)), reading.separator, tally);
    return;
  }
  for await (const row of rowsOf(piece, reading)) {
    if ("text" in row) yield { text: prepared(row.text), ends: true };
    else if (!reading.skip_bad) {
      throw new UserError(`${row.where()} ${row.problem} (--skip_bad=true leaves out such rows)`);
    } else {
      tally.bad++;
      tally.first_bad ||= `${row.where()} ${row.problem}`;
    }
  }
}

/** The documents between separators; those of white space alone don't count. */
function* partsOf(piece: Piece, text: string, separator: string, tally: Tally): Generator<Part> {
  if (separator === "") return yield { text, ends: piece.endsDocument };
  const parts = text.split(separator);
  if (separator === END_OF_TEXT) tally.end_of_text -= parts.length - 1;
  for (const [i, part] of parts.entries()) {
    const starts = i > 0 || piece.startsDocument;
    const ends = i < parts.length - 1 || piece.endsDocument;
    if (starts && (ends ? part.trim() === "" : part === "")) continue;
    yield { text: part, ends };
  }
}

function bytesOf({ path, start, end }: Piece): Buffer {
  return withInput(path, (file) => readBytes(file, path, start, end));
}

function readText(piece: Piece): string {
  const bytes = bytesOf(piece);
  if (piece.encoding === "utf-8" || piece.start === 0) return decodeText(bytes, shownPath(piece.path), piece.start);
  const mark = piece.encoding === "utf-16le" ? [0xff, 0xfe] : [0xfe, 0xff]; // for decodeText
  return decodeText(Buffer.concat([Buffer.from(mark), bytes]), shownPath(piece.path));
}

async function* rowsOf(piece: Piece, reading: Reading): AsyncGenerator<Row> {
  if (piece.kind === ".parquet") yield* readRows(piece, reading.field, piece.start, piece.end);
  else if (piece.kind === ".jsonl") yield* readLines(piece, reading);
  else if (piece.kind === ".csv") yield* readRecords(piece, reading);
  else yield* readValues(piece, reading);
}

function* readLines(piece: Piece, { field }: Reading): Generator<Row> {
  const { path, start } = piece;
  const text = decodeText(bytesOf(piece), shownPath(path), start);
  let number = 0;
  for (let at = 0; at < text.length; number++) {
    const newline = text.indexOf("\n", at);
    const end = newline < 0 ? text.length : newline;
    const line = text.slice(at, end);
    at = end + 1;
    if (line.trim() === "") continue;
    const here = number;
    yield parsed(line, field, () => `${shownPath(path)}, line ${1 + here + countLines(path, start)}`);
  }
}

function* readValues(piece: Piece, { field }: Reading): Generator<Row> {
  const { path, start, end, bytes: length } = piece;
  const bytes = bytesOf(piece);
  const list = start === 0 ? listStart(bytes) : undefined;
  for (let at = list?.start ?? 0; ; ) {
    const value = nextValue(bytes, at, true);
    if (!value) break;
    const text = decodeText(bytes.subarray(value.start, value.end), shownPath(path), Math.max(1, start + value.start));
    yield parsed(text, field, () => `${shownPath(path)}, byte ${start + value.start},`);
    at = value.end;
  }
  if (end < length) return;
  withInput(path, (file) => {
    const { isList } = listStart(readBytes(file, path, 0, Math.min(length, WINDOW)));
    const tail = readBytes(file, path, Math.max(0, length - WINDOW), length).toString("latin1");
    if (isList && !tail.trimEnd().endsWith("]"))
      throw new UserError(`${shownPath(path)} is cut off: its list has no end`);
  });
}

function parsed(json: string, field: string, where: () => string): Row {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    return { problem: `is not JSON; it has to be an object with a field "${field}"`, where };
  }
  return rowOf(value, field, where);
}

function* readRecords(piece: Piece, reading: Reading): Generator<Row> {
  const { path, start, end, bytes: length } = piece;
  const table = withInput(path, (file) => tableOf(file, piece, reading));
  const bytes = bytesOf(piece);
  const text = (from: number, to: number) =>
    decodeText(bytes.subarray(from, to), shownPath(path), Math.max(1, start + from));
  for (let at = Math.max(0, table.end - start); at < bytes.length; ) {
    const record = nextRecord(bytes, at, table.delimiter, true)!;
    const begins = start + at;
    const where = () => `${shownPath(path)}, line ${1 + countLines(path, begins)},`;
    at = record.end;
    if (record.open && end === length) throw new UserError(`${where()} has a quote that never ends`);
    const { length: count } = record.fields;
    if (count === table.names.length) yield { text: fieldText(text, record.fields[table.column]!) };
    else if (count > 0) yield { problem: `has ${count} fields, and the first line ${table.names.length}`, where };
  }
}

let opened: { key: string; table: ReturnType<typeof readHeader> & { column: number } } | undefined;

/** A .csv file's first record; the last one is cached, because it is needed once per piece. */
function tableOf(handle: number, { path, bytes, modified }: InputFile, { field }: Reading) {
  const key = JSON.stringify([path, bytes, modified, field]);
  if (opened?.key !== key) {
    const where = shownPath(path);
    const table = readHeader(readBytes(handle, path, 0, Math.min(bytes, WINDOW)), where);
    const column = table.names.indexOf(field);
    if (column < 0) throw new UserError(`${where} ${missing(field, table.names)}`);
    opened = { key, table: { ...table, column } };
  }
  return opened.table;
}

/** The newlines among the first `bytes` of a file. */
function countLines(path: string, bytes: number): number {
  return withInput(path, (file) => {
    let count = 0;
    for (let at = 0; at < bytes; at += WINDOW) {
      for (const byte of readBytes(file, path, at, Math.min(bytes, at + WINDOW))) if (byte === 0x0a) count++;
    }
    return count;
  });
}
