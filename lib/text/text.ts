// Strict decoding of text: a model would learn silently inserted replacement characters. Left out: encodings other than UTF-8 and UTF-16, and
// texts too long for one JavaScript string (about half a billion characters), which documents.ts reads.

import { constants } from "node:buffer";
import { createHash } from "node:crypto";

import { hasCode, UserError } from "../common/errors.ts";
import { readBytes } from "../common/read_file.ts";
import type { TextSource } from "./meta.ts";

export interface SourcedText {
  text: string;
  source: Omit<TextSource, "characters">;
}

/** SHA-256 of `bytes`, in lower-case hexadecimal. */
export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** The bytes of a user's file. @throws UserError with the reason if there are none */
export function readInput(path: string): Buffer {
  const bytes = readBytes(path, { most: constants.MAX_STRING_LENGTH });
  if (!bytes) throw new UserError(`no file ${path}; give the path of a text file in UTF-8`);
  return bytes;
}

/** Decode `bytes` as UTF-8, or as UTF-16 if they begin with its byte order mark; without the mark. A UserError has `where` and the offset of the
 * first invalid byte.
 * @param start their offset in the file: a mark can only be at its start */
export function decodeText(bytes: Uint8Array, where: string, start = 0): string {
  const encoding = (start === 0 && utf16Of(bytes)) || "utf-8";
  let text: string;
  try {
    text = new TextDecoder(encoding, { fatal: true, ignoreBOM: start > 0 }).decode(bytes);
  } catch (error) {
    if (!hasCode(error, "ERR_ENCODING_INVALID_ENCODED_DATA")) throw error;
    if (encoding !== "utf-8") throw new UserError(`${where} begins as UTF-16 text but isn't: it has half a character`);
    throw new UserError(
      `${where} is not UTF-8 text: bad byte at offset ${start + badByteOffset(bytes)}; convert it to UTF-8 (iconv -f WINDOWS-1252 -t UTF-8, for most of Windows' files)`,
    );
  }
  const zero = text.indexOf("\0");
  if (zero < 0) return text;
  const offset = start + (encoding === "utf-8" ? Buffer.byteLength(text.slice(0, zero)) : 2 * zero);
  throw new UserError(`${where} is not text: it has a zero byte at offset ${offset}; give a text file in UTF-8`);
}

/** The length of UTF-8's byte order mark at the start of a file; 0 without one. */
export function markLength(bytes: Uint8Array): number {
  return bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf ? 3 : 0;
}

/** Is it ASCII white space? */
export function isSpace(code: number | undefined): boolean {
  return code === 0x20 || (code !== undefined && code >= 0x09 && code <= 0x0d);
}

/** The kind of UTF-16, from a byte order mark at a file's start. */
export function utf16Of(bytes: Uint8Array): "utf-16le" | "utf-16be" | undefined {
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return "utf-16le";
  if (bytes[0] === 0xfe && bytes[1] === 0xff) return "utf-16be";
  return undefined;
}

/** `text` with line ends as in Python's text mode, and so nanoGPT's: \\r\\n and a lone \\r become \\n. */
export function unixLineEnds(text: string): { text: string; replaced: number } {
  if (!text.includes("\r")) return { text, replaced: 0 };
  let replaced = 0;
  const unix = text.replace(/\r\n?/g, () => {
    replaced++;
    return "\n";
  });
  return { text: unix, replaced };
}

/** The notice if `unixLineEnds` has replaced some. */
export function lineEndNotice(what: string, replaced: number): string {
  const count = replaced.toLocaleString("en-US");
  return `${what}: ${count} line ends \\r\\n or \\r became \\n, as nanoGPT reads them; --keep_crlf=true keeps them`;
}

/** Options of reading a text, and where to report. */
export interface TextOptions {
  keep_crlf: boolean; // leave line ends as they are
  log: (line: string) => void;
}

/** The text of some `bytes`, by `decodeText` and `unixLineEnds`, whose messages have `where`. */
export function readText(bytes: Uint8Array, where: string, { keep_crlf, log }: TextOptions): string {
  const text = decodeText(bytes, where);
  if (keep_crlf) return text;
  const { text: unix, replaced } = unixLineEnds(text);
  if (replaced > 0) log(lineEndNotice(where, replaced));
  return unix;
}

/** The decoder does not report the position: decode leniently and find the first replacement that isn't in the text. */
function badByteOffset(bytes: Uint8Array): number {
  const written = Buffer.from("\uFFFD");
  let offset = 0;
  for (const character of new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes)) {
    if (character === "\uFFFD" && !written.equals(bytes.subarray(offset, offset + written.length))) break;
    offset += Buffer.byteLength(character);
  }
  return offset;
}
