// The values of a JSON file one by one, in constant memory: the elements of a list, or a sequence of values. Finds where they end; JSON.parse
// reads them.

import { isSpace, markLength } from "./text.ts";

/** The range of a value in some bytes. */
export interface Span {
  start: number;
  end: number;
}

const [COMMA, OPEN, CLOSE, OPEN_BRACE, CLOSE_BRACE, QUOTE, BACKSLASH] = Buffer.from(',[]{}"\\');

/** The first place of a JSON file where a value of the list, or of the sequence, may begin: after a byte order mark and `[`. */
export function listStart(bytes: Uint8Array): { start: number; isList: boolean } {
  let at = markLength(bytes);
  while (isSpace(bytes[at])) at++;
  const isList = bytes[at] === OPEN;
  return { start: isList ? at + 1 : at, isList };
}

/**
 * The next value at or after `from`, skipping commas and the list's end.
 * @returns null if none follows, undefined if `bytes` end within one; `atEnd`: nothing follows them
 */
export function nextValue(bytes: Uint8Array, from: number, atEnd: boolean): Span | null | undefined {
  let start = from;
  while (start < bytes.length && (isSpace(bytes[start]) || bytes[start] === COMMA || bytes[start] === CLOSE)) start++;
  if (start === bytes.length) return atEnd ? null : undefined;
  let depth = 0;
  for (let at = start; at < bytes.length; at++) {
    const byte = bytes[at];
    if (byte === QUOTE) {
      for (at++; at < bytes.length && bytes[at] !== QUOTE; at++) if (bytes[at] === BACKSLASH) at++;
      if (at >= bytes.length) break;
      if (depth === 0) return { start, end: at + 1 };
    } else if (byte === OPEN || byte === OPEN_BRACE) depth++;
    else if (byte === CLOSE || byte === CLOSE_BRACE) {
      if (depth === 0) return { start, end: at }; // of a number
      if (--depth === 0) return { start, end: at + 1 };
    } else if (depth === 0 && (byte === COMMA || isSpace(byte))) return { start, end: at };
  }
  return atEnd ? { start, end: bytes.length } : undefined;
}
