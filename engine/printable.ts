// Text that others wrote, for a line of ours: a file may hold control characters, line breaks or a megabyte where a name
// should be.

const MOST = 200; // characters

/** Someone else's text on one line: control characters escaped, cut where it is too long. */
export function printable(text: string, most = MOST): string {
  // cut first: what would be cut away need not be escaped
  const line = text.slice(0, most).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (c) => `\\u{${c.codePointAt(0)!.toString(16)}}`);
  return text.length > most || line.length > most ? `${line.slice(0, most)}...` : line;
}
