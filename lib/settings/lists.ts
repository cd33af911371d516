// Lists in flags and environment variables: commas separate the items, and "\," is a comma within one, as in
// --out_dir='a,b\,c' for the folders "a" and "b,c". A backslash right before a comma is then "\\"; any other is itself.

const COMMA = /(\\*),/g;

/** The items of a list, each without spaces around it. */
export function splitList(text: string): string[] {
  if (text === "") return [];
  const items = [""];
  let at = 0;
  for (const { 0: whole, 1: backslashes = "", index } of text.matchAll(COMMA)) {
    const half = backslashes.length >> 1;
    items[items.length - 1] += text.slice(at, index) + "\\".repeat(half);
    if (backslashes.length % 2 === 1) items[items.length - 1] += ",";
    else items.push("");
    at = index + whole.length;
  }
  items[items.length - 1] += text.slice(at);
  return items.map((item) => item.trim());
}

/** A flag's text for these items. */
export function joinList(items: readonly unknown[]): string {
  const escaped = items.map((item) => String(item).replaceAll(COMMA, "$1$1\\,"));
  return escaped.map((item, i) => (i < items.length - 1 ? item.replace(/\\+$/, "$&$&") : item)).join(",");
}
