// How a setting's value is shown in messages, in --help and in the lines on what was overridden.

/** A value as a person would write it: texts in quotes, lists in brackets; what no setting can be by its kind. */
export function show(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(show).join(", ")}]`;
  if (typeof value === "object" && value !== null) return "an object";
  return typeof value === "function" ? "a function" : String(value);
}

/** `"a", "b" or "c"` */
export function choice(names: readonly string[]): string {
  const shown = names.map(show);
  return shown.length < 2 ? shown.join("") : `${shown.slice(0, -1).join(", ")} or ${shown.at(-1)}`;
}
