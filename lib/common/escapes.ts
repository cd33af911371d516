// Escape sequences in the text of a setting.

import { UserError } from "./errors.ts";

const ESCAPES: Readonly<Record<string, string>> = { n: "\n", r: "\r", t: "\t", "\\": "\\" };

/**
 * Decode \n, \r, \t, \\ and \uXXXX, which stand for what a command line or a comma-separated list can't hold.
 * @param key the setting, for the message
 * @throws UserError for another escape sequence
 */
export function unescapeText(text: string, key: string): string {
  return text.replaceAll(/\\(u[0-9a-fA-F]{4}|.?)/g, (whole, code: string) => {
    if (code.length === 5) return String.fromCharCode(Number.parseInt(code.slice(1), 16));
    const character = ESCAPES[code];
    if (character !== undefined) return character;
    throw new UserError(`--${key} has ${whole} in ${JSON.stringify(text)}; it knows \\n, \\r, \\t, \\\\ and \\uXXXX`);
  });
}
