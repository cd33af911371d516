// Texts of one column of a parquet file, page by page: a row group may not fit into memory. hyparquet decodes the format. Left out: texts
// inside lists and structures.

import { closeSync } from "node:fs";

import type { ColumnMetaData, FileMetaData, SchemaTree } from "hyparquet";

import { UserError } from "../common/errors.ts";
import { printable } from "../common/printable.ts";
import { shownPath } from "./dataset.ts";
import { type InputFile, openInput, readBytes } from "./input_files.ts";
import { missing, type Row } from "./rows.ts";

/** A page: bytes of a column that can be read independently. */
interface Page {
  row: number; // the first one, of the file's
  rows: number;
  isDictionary: boolean;
  start: number; // bytes in the file, with its header
  end: number;
  size: number; // bytes of its contents
}

interface Group {
  row: number; // the first one
  rows: number;
  column: ColumnMetaData;
}

/** Rows [start, end) in pages, at most one row group's; `bytes` of the file are processed after this. */
export interface Rows {
  start: number;
  end: number;
  bytes: number;
}

/** The rows of a file from `from` on, in parts of some `size` bytes of text or more. */
export async function* rowRanges(file: InputFile, field: string, from: number, size: number): AsyncGenerator<Rows> {
  const parquet = await openParquet(file, field);
  const total = Number(parquet.metadata.num_rows);
  for (const group of parquet.groups) {
    if (group.row + group.rows <= from) continue;
    let start = group.row;
    let held = 0;
    for (const page of pagesOf(parquet, group)) {
      held += page.size;
      const end = page.row + page.rows;
      if (page.rows === 0 || (held < size && end < group.row + group.rows)) continue;
      if (start >= from) yield { start, end, bytes: Math.round((file.bytes * end) / total) };
      [start, held] = [end, 0];
    }
  }
}

/** Rows [start, end) of the column `field`: they begin and end with pages. */
export async function* readRows(of: InputFile, field: string, start: number, end: number): AsyncGenerator<Row> {
  const { path } = of;
  const parquet = await openParquet(of, field);
  const { readPage } = await import("hyparquet/src/column.js");
  const { convert, DEFAULT_PARSERS } = await import("hyparquet/src/convert.js");
  const { compressors } = await import("hyparquet-compressors");
  const group = parquet.groups.find(({ row, rows }) => row <= start && start < row + rows)!;
  const asBytes = (bytes: Uint8Array) => bytes; // decoded one by one, on demand
  const decoder = {
    ...group.column,
    pathInSchema: [field],
    element: parquet.schemaPath[1]!.element,
    schemaPath: parquet.schemaPath,
    parsers: { ...DEFAULT_PARSERS, stringFromBytes: asBytes, jsonFromBytes: asBytes },
    compressors,
  };
  const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const file = openInput(path);
  try {
    let dictionary: ReturnType<typeof convert> | undefined;
    for (const page of pagesOf(parquet, group)) {
      if (!page.isDictionary && (page.rows === 0 || page.row < start || page.row >= end)) continue;
      const values = readable(path, () => {
        const reader = readerOf(readBytes(file, path, page.start, page.end));
        const { data = [] } = readPage(reader, parquet.parquetHeader(reader), decoder, dictionary, undefined, 0);
        return page.isDictionary ? convert(data, decoder) : data;
      });
      if (page.isDictionary) {
        dictionary = values;
        continue;
      }
      if (values.length !== page.rows) throw unreadable(path, `${values.length} rows in a page of ${page.rows}`);
      for (let i = 0; i < values.length; i++) {
        const value: unknown = values[i];
        const where = () => `${shownPath(path)}, row ${1 + page.row + i}`;
        if (value instanceof Uint8Array) yield { text: readable(path, () => strict.decode(value)) };
        else yield { problem: `has no text in its column "${field}", but null`, where };
      }
    }
  } finally {
    closeSync(file);
  }
}

/** Bytes as hyparquet reads them, from the first on. */
function readerOf({ buffer, byteOffset, length }: Buffer) {
  return { view: new DataView(buffer, byteOffset, length), offset: 0 };
}

type Parquet = Awaited<ReturnType<typeof readFooter>>;

/** The pages of a row group's column, in order, found by their headers. The last group's are cached. */
function pagesOf(parquet: Parquet, group: Group): Page[] {
  if (parquet.pages?.group === group) return parquet.pages.list;
  const { path, parquetHeader } = parquet;
  const { dictionary_page_offset, data_page_offset, total_compressed_size } = group.column;
  const first = Number(dictionary_page_offset || data_page_offset);
  const last = first + Number(total_compressed_size);
  const list: Page[] = [];
  const file = openInput(path);
  try {
    let row = group.row;
    for (let start = first; start < last; ) {
      const header = (bytes: number) => {
        const reader = readerOf(readBytes(file, path, start, Math.min(last, start + bytes)));
        return { ...parquetHeader(reader), length: reader.offset };
      };
      let found: ReturnType<typeof header>;
      try {
        found = header(1 << 12);
      } catch {
        found = readable(path, () => header(1 << 24)); // statistics may be long
      }
      const { data_page_header, data_page_header_v2, compressed_page_size, uncompressed_page_size: size } = found;
      const rows = data_page_header?.num_values ?? data_page_header_v2?.num_rows ?? 0;
      const end = start + found.length + compressed_page_size;
      if (!(compressed_page_size >= 0 && end <= last && rows >= 0))
        throw unreadable(path, `a page at byte ${start} has no end`);
      list.push({ row, rows, isDictionary: found.type === "DICTIONARY_PAGE", start, end, size });
      row += rows;
      start = end;
    }
    if (row !== group.row + group.rows)
      throw unreadable(path, `its pages have ${row - group.row} of ${group.rows} rows`);
  } finally {
    closeSync(file);
  }
  parquet.pages = { group, list };
  return list;
}

let opened: { key: string; parquet: Promise<Parquet> } | undefined;

/** An open .parquet file; the last one is cached, because it is needed once per piece. */
function openParquet({ path, bytes, modified }: InputFile, field: string): Promise<Parquet> {
  const key = JSON.stringify([path, bytes, modified, field]);
  if (opened?.key !== key) opened = { key, parquet: readFooter(path, field) };
  return opened.parquet;
}

async function readFooter(path: string, field: string) {
  const hyparquet = await import("hyparquet"); // not needed for the other kinds
  const { parquetHeader } = await import("hyparquet/src/column.js");
  let metadata: FileMetaData;
  let root: SchemaTree;
  try {
    metadata = await hyparquet.parquetMetadataAsync(await hyparquet.asyncBufferFromFile(path));
    root = hyparquet.parquetSchema(metadata);
    checkRows(metadata);
  } catch (error) {
    throw unreadable(path, error);
  }
  const isTexts = ({ element }: SchemaTree) => element.type === "BYTE_ARRAY" && element.repetition_type !== "REPEATED";
  const column = root.children.find(({ element }) => element.name === field);
  if (!column || !isTexts(column)) {
    const names = (of: SchemaTree[]) => of.map(({ element }) => element.name);
    const texts = names(root.children.filter(isTexts));
    if (!column && texts.length > 0) throw new UserError(`${shownPath(path)} ${missing(field, texts)}`);
    throw new UserError(
      `${shownPath(path)} has no column "${field}" of texts; its columns: ${printable(names(root.children).join(", "))}`,
    );
  }
  let row = 0;
  const groups = metadata.row_groups.map(({ columns, num_rows }): Group => {
    const chunk = columns.find(({ meta_data }) => meta_data?.path_in_schema[0] === field)?.meta_data;
    if (!chunk) throw unreadable(path, `a row group without the column "${field}"`);
    row += Number(num_rows);
    return { row: row - Number(num_rows), rows: Number(num_rows), column: chunk };
  });
  const pages = undefined as { group: Group; list: Page[] } | undefined; // those found last
  return { path, metadata, groups, schemaPath: [root, column], parquetHeader, pages };
}

/** Check that the groups' rows add up to the file's: else pieces would be split in the wrong places. */
function checkRows({ num_rows, row_groups }: FileMetaData): void {
  const sum = row_groups.reduce((rows, group) => {
    if (typeof group.num_rows !== "bigint" || group.num_rows < 0n) throw new Error("a row group doesn't say its rows");
    return rows + group.num_rows;
  }, 0n);
  if (sum !== num_rows) throw new Error(`it has ${num_rows} rows, and its row groups ${sum}`);
}

/** The result of `read`; if it fails on the contents, the file is at fault. */
function readable<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw unreadable(path, error);
  }
}

function unreadable(path: string, error: unknown): UserError {
  const isStumble = error instanceof TypeError || error instanceof RangeError; // the library stumbled over missing data
  const reason = isStumble ? "it is damaged" : error instanceof Error ? error.message : String(error);
  return new UserError(`${shownPath(path)} can't be read as parquet: ${printable(reason.replaceAll(/\s+/g, " "))}`);
}
