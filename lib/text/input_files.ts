// The input files of a prepare script: given one by one or as folders, each of a kind given by its extension. Left out: their contents
// (documents.ts).

import { closeSync, existsSync, readdirSync, readSync, type Stats } from "node:fs";
import { extname, join, relative, resolve } from "node:path";

import { UserError } from "../common/errors.ts";
import { openFile, statOf } from "../common/read_file.ts";
import { shownPath } from "./dataset.ts";
import { utf16Of } from "./text.ts";

const KINDS = [".txt", ".md", ".jsonl", ".json", ".csv", ".parquet"] as const;
export type Kind = (typeof KINDS)[number];
export const KINDS_IN_WORDS = ".txt, .md, .jsonl, .json, .csv and .parquet";

export interface InputFile {
  path: string;
  kind: Kind;
  bytes: number;
  modified: number; // ms since 1970
  encoding: "utf-8" | "utf-16le" | "utf-16be"; // of a text
}

/** The files at `paths`, folders opened (their files sorted by name). `log` reports which are left out or read as text.
 * @throws UserError if there are none */
export function listFiles(paths: readonly string[], log: (line: string) => void = () => {}): InputFile[] {
  const whole = paths.join(","); // a path with commas in it
  return (paths.length > 1 && existsSync(whole) ? [whole] : paths).flatMap((path) => {
    if (!found(path).isDirectory()) {
      const kind = kindOf(path);
      if (!kind) log(`${shownPath(path)} is read as text, as its name doesn't end in ${KINDS_IN_WORDS}`);
      return [inputFile(path, kind ?? ".txt")];
    }
    const entries = readdirSync(path, { recursive: true, withFileTypes: true });
    const named = entries.filter(({ name }) => !name.startsWith("."));
    const files = named
      .filter(({ name }) => kindOf(name))
      .map(({ name, parentPath }) => relative(path, join(parentPath, name)))
      .filter((name) => found(join(path, name)).isFile()) // links are followed
      .sort();
    if (files.length === 0) throw new UserError(`no ${KINDS_IN_WORDS} file in the folder ${path}`);
    const others = named.filter((entry) => entry.isFile() && !kindOf(entry.name)).length;
    if (others > 0)
      log(`${shownPath(path)}: ${files.length} files; ${others} others are left out: not ${KINDS_IN_WORDS}`);
    return files.map((name) => inputFile(join(path, name), kindOf(name)!));
  });
}

function found(path: string): Stats {
  const stat = statOf(path);
  if (!stat) throw new UserError(`no file or folder ${path}; --input takes ${KINDS_IN_WORDS} files and folders`);
  return stat;
}

function kindOf(path: string): Kind | undefined {
  return KINDS.find((kind) => extname(path).toLowerCase() === kind);
}

export const isText = (kind: Kind) => kind === ".txt" || kind === ".md";

function inputFile(path: string, kind: Kind): InputFile {
  const { size, mtimeMs } = found(path);
  const start = withInput(path, (file) => readBytes(file, path, 0, Math.min(2, size)));
  const encoding = utf16Of(start) ?? "utf-8";
  if (encoding !== "utf-8" && !isText(kind)) {
    throw new UserError(
      `${shownPath(path)} is UTF-16; convert it: iconv -f UTF-16 -t UTF-8 ${shownPath(path)} > utf8${kind}`,
    );
  }
  return { path: resolve(path), kind, bytes: size, modified: mtimeMs, encoding };
}

export function openInput(path: string): number {
  const opened = openFile(path, shownPath(path));
  if (!opened) throw new UserError(`${shownPath(path)} went away; start again when it is back`);
  return opened.file;
}

/** `use` an open file, which is closed afterwards. */
export function withInput<T>(path: string, use: (file: number) => T): T {
  const file = openInput(path);
  try {
    return use(file);
  } finally {
    closeSync(file);
  }
}

/** Bytes [start, end) of an open file. */
export function readBytes(file: number, path: string, start: number, end: number): Buffer {
  const bytes = Buffer.allocUnsafe(end - start);
  for (let done = 0; done < bytes.length; ) {
    const read = readSync(file, bytes, done, bytes.length - done, start + done);
    if (read === 0) throw new UserError(`${shownPath(path)} became shorter while it was read; start again`);
    done += read;
  }
  return bytes;
}
