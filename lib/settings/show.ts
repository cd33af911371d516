// Shows a setting's value in messages, --help and the lines on overrides.

import { printable } from "../common/printable.ts";

const MOST = 200; // items; a line shows fewer
const DEEPEST = 3; // lists in lists

/** A value as one would write it: strings in quotes, lists in brackets; anything else by its type. */
export function show(value: unknown, depth = 0): string {
  if (typeof value === "string") return printable(JSON.stringify(value));
  if (Array.isArray(value)) {
    if (depth > DEEPEST) return "a list";
    const items = value.slice(0, MOST).map((item) => show(item, depth + 1));
    return printable(`[${items.join(", ")}]`);
  }
  if (typeof value === "object" && value !== null) return "an object";
  return typeof value === "function" ? "a function" : String(value);
}

/** `"a", "b" or "c"` */
export function choice(names: readonly string[]): string {
  const shown = names.map((name) => show(name));
  return shown.length < 2 ? shown.join("") : `${shown.slice(0, -1).join(", ")} or ${shown.at(-1)}`;
}
