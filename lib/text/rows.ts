// Texts in the rows of a table or list, and messages about rows without one.

import { printable } from "../common/printable.ts";

/** A row's text, or why it has none. `where` is called only for a message, as it may have to count lines. */
export type Row = { text: string } | { problem: string; where: () => string };

/** The text in a value of JSON: the field of that name, or the value itself if it is a string. */
export function rowOf(value: unknown, field: string, where: () => string): Row {
  if (typeof value === "string") return { text: value };
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return { problem: `is no object with a field "${field}", but ${nameOf(value)}`, where };
  }
  const fields = new Map<string, unknown>(Object.entries(value));
  const text = fields.get(field);
  if (typeof text === "string") return { text };
  if (fields.has(field)) return { problem: `has no text in its field "${field}", but ${nameOf(text)}`, where };
  const texts = [...fields].filter(([, held]) => typeof held === "string").map(([key]) => key);
  if (texts.length > 0) return { problem: missing(field, texts), where };
  const held = [...fields].map(([key, value]) => `${key} (${nameOf(value)})`);
  return { problem: `has no field "${field}", and none that is a text: ${shorten(held) || "it is empty"}`, where };
}

/** The message for a missing field, with the names of fields that hold texts. */
export function missing(field: string, texts: readonly string[]): string {
  return `has no field "${field}"; it has ${shorten(texts)}: give one with --field=${texts.length === 1 ? texts[0] : "NAME"}`;
}

function nameOf(value: unknown): string {
  if (value === null || value === undefined) return "null";
  if (Array.isArray(value)) return "a list";
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}

function shorten(names: readonly string[]): string {
  const shown = names.slice(0, 10).map((name) => printable(name.slice(0, 40)));
  return shown.join(", ") + (names.length > 10 ? ", ..." : "");
}
