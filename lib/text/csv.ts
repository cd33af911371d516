// Parses CSV records (RFC 4180): fields between separators, quoted if they contain one, a quote or a line break. Works on bytes, because the
// same grammar decides where a large file may be split. Left out: other quotes than `"`.

import { UserError } from "../common/errors.ts";
import { markLength } from "./text.ts";

interface Field {
  start: number;
  end: number;
  quoted: boolean;
}

export interface CsvRecord {
  fields: Field[]; // none for an empty line
  end: number; // after its line break
  open: boolean; // do the bytes end inside quotes?
}

const [QUOTE, NEWLINE, RETURN] = [0x22, 0x0a, 0x0d];

/** The record at `from`; undefined if `bytes` end within it, unless `atEnd`: nothing follows them. */
export function nextRecord(bytes: Uint8Array, from: number, delimiter: number, atEnd: boolean): CsvRecord | undefined {
  const fields: Field[] = [];
  let field: Field = { start: from, end: from, quoted: false };
  let within = false; // quotes
  for (let at = from; at < bytes.length; at++) {
    const byte = bytes[at];
    if (within) {
      if (byte !== QUOTE) continue;
      if (bytes[at + 1] === QUOTE) at++;
      else within = false;
    } else if (byte === QUOTE && at === field.start) {
      field.quoted = true;
      within = true;
    } else if (byte === delimiter) {
      fields.push({ ...field, end: at });
      field = { start: at + 1, end: at + 1, quoted: false };
    } else if (byte === NEWLINE || byte === RETURN) {
      if (byte === RETURN && at + 1 === bytes.length && !atEnd) return undefined; // a line feed may follow
      const end = byte === RETURN && bytes[at + 1] === NEWLINE ? at + 2 : at + 1;
      return { fields: at === from ? [] : [...fields, { ...field, end: at }], end, open: false };
    }
  }
  if (!atEnd) return undefined;
  const empty = bytes.length === from;
  return { fields: empty ? [] : [...fields, { ...field, end: bytes.length }], end: bytes.length, open: within };
}

/** The text of a field. */
export function fieldText(text: (start: number, end: number) => string, { start, end, quoted }: Field): string {
  if (!quoted) return text(start, end);
  return text(start + 1, end)
    .replace(/"(?!")([^"]*)$/, "$1") // the closing quote; what follows it is kept
    .replaceAll('""', '"');
}

/** A table's first record: its separator (comma, semicolon or tab), and the fields' names. */
export function readHeader(bytes: Buffer, where: string): { delimiter: number; names: string[]; end: number } {
  const start = markLength(bytes);
  const candidates = [...Buffer.from(",;\t")].map((delimiter) => {
    return { delimiter, record: nextRecord(bytes, start, delimiter, true)! };
  });
  const { delimiter, record } = candidates.sort((a, b) => b.record.fields.length - a.record.fields.length)[0]!;
  if (record.open) throw new UserError(`${where} has no first line with the names of its fields`);
  const names = record.fields.map((field) => fieldText((a, b) => bytes.toString("utf8", a, b), field).trim());
  return { delimiter, names, end: record.end };
}
