// Reads files that may be damaged, or not be files at all: each fault is a UserError of one line, and none blocks the reader (a pipe
// without a writer) or exhausts memory (a device, or gigabytes instead of a page).

import { closeSync, constants, fstatSync, openSync, readSync, type Stats, statSync } from "node:fs";
import { explain, hasCode, UserError } from "./errors.ts";
import { printable } from "./printable.ts";
import { z } from "./zod.ts";

const MAX_TEXT = 256 * 2 ** 20; // bytes, of files that are read whole; a string of JavaScript holds twice as many characters

export interface ReadOptions {
  shown?: string; // the path in messages
  most?: number; // bytes; more is refused before anything is read
}

/**
 * stat of a path, links followed; undefined if nothing is there.
 * @throws UserError if it fails: no permission, a name that is too long, circular links
 */
export function statOf(path: string, shown = path): Stats | undefined {
  checkPath(path, shown);
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch (error) {
    throw explain(error, `can't read ${printable(shown)}`);
  }
}

/**
 * Open a file for reading; the caller closes it. Undefined if there is none.
 * @throws UserError if it is a folder, a pipe or a device, or the system refuses
 */
export function openFile(path: string, shown = path): { file: number; stat: Stats } | undefined {
  checkPath(path, shown);
  let file: number;
  try {
    file = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0)); // without it a pipe waits for its writer
  } catch (error) {
    if (hasCode(error, "ENOENT") || hasCode(error, "ENOTDIR")) return undefined;
    if (hasCode(error, "ENXIO")) throw new UserError(`${printable(shown)} is a socket, not a file`);
    throw explain(error, `can't read ${printable(shown)}`);
  }
  try {
    const stat = fstatSync(file);
    if (!stat.isFile()) throw new UserError(`${printable(shown)} is ${kindOf(stat)}, not a file`);
    return { file, stat };
  } catch (error) {
    closeSync(file);
    throw error;
  }
}

/** Node throws a special error for these. */
function checkPath(path: string, shown: string): void {
  if (path.includes("\0")) throw new UserError(`${printable(shown)} is no path: it holds the character NUL`);
}

function kindOf(stat: Stats): string {
  if (stat.isDirectory()) return "a folder";
  return stat.isFIFO() ? "a pipe" : "a device";
}

/** A file's bytes; undefined if there is no such file. @throws UserError as `openFile` does, and if it is too large */
export function readBytes(path: string, { shown = path, most = MAX_TEXT }: ReadOptions = {}): Buffer | undefined {
  const opened = openFile(path, shown);
  if (!opened) return undefined;
  const { file, stat } = opened;
  try {
    if (stat.size > most) {
      const size = (bytes: number) => `${Math.ceil(bytes / 2 ** 20).toLocaleString("en-US")} MB`;
      throw new UserError(`${printable(shown)} has ${size(stat.size)}; more than ${size(most)} can't be read here`);
    }
    // not readFileSync: it keeps reading while the file grows. A file of /proc says 0 bytes and has more
    const parts: Buffer[] = [];
    let total = 0;
    const limit = stat.size > 0 ? stat.size : most;
    while (total < limit) {
      const part = Buffer.alloc(Math.min(limit - total, stat.size || 1 << 16));
      const count = readSync(file, part, 0, part.length, null);
      if (count === 0) break;
      parts.push(part.subarray(0, count));
      total += count;
    }
    return parts.length === 1 ? parts[0] : Buffer.concat(parts);
  } catch (error) {
    throw explain(error, `can't read ${printable(shown)}`);
  } finally {
    closeSync(file);
  }
}

/** A file's text, in UTF-8; undefined if there is no such file. @throws UserError as `readBytes` does */
export function readText(path: string, options: ReadOptions = {}): string | undefined {
  return readBytes(path, options)?.toString("utf8");
}

/**
 * Parse JSON and check it against a schema.
 * @param fail makes the error from what is wrong: "it is not JSON: ...", "n_layer: Invalid input: expected int"
 */
export function parseJson<T extends z.core.$ZodType>(
  text: string,
  schema: T,
  fail: (why: string) => UserError,
): z.output<T> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    const why = error instanceof Error ? printable(error.message.replaceAll(/\s+/g, " ")) : "";
    throw fail(`it is not JSON: ${why}`); // with the words around the place
  }
  const { success, error, data } = z.safeParse(schema, json);
  if (success) return data;
  throw fail(printable(explainIssue(error)));
}

/** A JSON file, checked against a schema; undefined if there is no such file. @throws UserError as `readText` does, and `fail`'s */
export function readJson<T extends z.core.$ZodType>(
  path: string,
  schema: T,
  fail: (why: string) => UserError,
  options: ReadOptions = {},
): z.output<T> | undefined {
  const text = readText(path, options);
  return text === undefined ? undefined : parseJson(text, schema, fail);
}

/** `parseJson`; undefined if there is no text, or it is damaged or doesn't match. */
export function jsonIf<T extends z.core.$ZodType>(text: string | undefined, schema: T): z.output<T> | undefined {
  if (text === undefined) return undefined;
  try {
    return parseJson(text, schema, (why) => new UserError(why));
  } catch (error) {
    if (error instanceof UserError) return undefined;
    throw error;
  }
}

/** The first problem that a schema finds: "weights.bytes: Invalid input: expected number, received string". */
export function explainIssue({ issues: [issue] }: z.core.$ZodError): string {
  const where = issue!.path.map(String).join(".");
  return where === "" ? issue!.message : `${where}: ${issue!.message}`;
}
