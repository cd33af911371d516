// Text from bytes, strictly: a training text with silent replacement characters in it would teach them to the model.
// Leaves out every encoding but UTF-8, and texts too long for one JavaScript string (about half a billion characters).

import { constants } from "node:buffer";
import { createHash } from "node:crypto";

import { hasCode, UserError } from "../engine/errors.ts";
import { readBytes } from "../engine/read_file.ts";

/** Where a text came from: recorded in meta.json, so that a model can be traced back to what it was trained on. */
export interface Source {
  name: string;
  url?: string;
  path?: string;
  sha256: string; // of the bytes as they came, a byte order mark included
}

export interface SourcedText {
  text: string;
  source: Source;
}

/** SHA-256 of `bytes`, in lower-case hexadecimal. */
export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** The bytes of the file a user named; a UserError says in one line why there are none. */
export function readInput(path: string): Buffer {
  const bytes = readBytes(path, { most: constants.MAX_STRING_LENGTH });
  if (!bytes) throw new UserError(`no file ${path}; give the path of a text file in UTF-8`);
  return bytes;
}

/** `bytes` as UTF-8, without a leading byte order mark. A UserError names `where` and the first bad byte's offset.
 * @param start where in the file they begin: a mark can only be at its start */
export function decodeText(bytes: Uint8Array, where: string, start = 0): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: start > 0 }).decode(bytes);
  } catch (error) {
    if (!hasCode(error, "ERR_ENCODING_INVALID_ENCODED_DATA")) throw error;
    throw new UserError(
      `${where} is not UTF-8 text: bad byte at offset ${start + badByteOffset(bytes)}; convert it to UTF-8`,
    );
  }
}

/** The decoder does not say where it failed: decode leniently and find the first replacement that was not written. */
function badByteOffset(bytes: Uint8Array): number {
  const written = Buffer.from("\uFFFD");
  let offset = 0;
  for (const character of new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes)) {
    if (character === "\uFFFD" && !written.equals(bytes.subarray(offset, offset + written.length))) break;
    offset += Buffer.byteLength(character);
  }
  return offset;
}
