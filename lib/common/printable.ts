// Makes foreign text safe for a line of output: a file may hold control characters, line breaks or a megabyte in place of a name.

const MOST = 200; // characters

/** Foreign text on one line: control characters escaped, cut where it is too long. */
export function printable(text: string, most = MOST): string {
  // cut first: what would be cut away need not be escaped
  const line = text.slice(0, most).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (c) => `\\u{${c.codePointAt(0)!.toString(16)}}`);
  return text.length > most || line.length > most ? `${line.slice(0, most)}...` : line;
}

// line breaks and tabs don't count; characters that reverse the direction of text do
const CONTROL = /(?![\n\t])[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu;

/**
 * Text of several lines that a terminal shows and doesn't execute: what would move its cursor, change its title or clear it is
 * escaped. "\r\n" becomes "\n". A JSON text stays the same JSON.
 */
export function visible(text: string): string {
  return text
    .replaceAll(/\r(?=\n|$)/g, "")
    .replaceAll(CONTROL, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** A text without the passwords of addresses in it: "http://me:secret@host" -> "http://me@host". */
export function withoutPasswords(text: string): string {
  // up to the last "@", as a password may hold others; what is behind ":" may be a port
  return text.replaceAll(/(\b[a-z][a-z0-9+.-]*:\/\/[^\s/?#@:"]*):(?!\d+(?:[/?#]|$))(?:[^\s"`<>]|\\")*@/gi, "$1@");
}

/** All printed and logged text passes through here. */
export function shownText(text: string): string {
  return visible(withoutPasswords(text));
}
