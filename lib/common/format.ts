// Numbers formatted for people, in a terminal and on a page, and tables.

/** 1234567 -> "1,234,567" */
export function whole(value: number): string {
  return Math.round(value).toLocaleString("en-US");
}

/** Four digits at most: "2.313", "6e-4", "1.23e+7". */
export function significant(value: number): string {
  const size = Math.abs(value);
  if (!Number.isFinite(value) || value === 0) return String(value);
  const exponential = size <= 1e-3 || size >= 1e6;
  return exponential ? value.toExponential(2).replace(/\.?0+e/, "e") : String(Number(value.toPrecision(4)));
}

/** Three digits with k, M or G behind: 35_912 -> "35.9k". */
export function short(value: number): string {
  const units = ["", "k", "M", "G", "T"];
  let unit = 0;
  let scaled = value;
  for (; Math.abs(scaled) >= 999.5 && unit < units.length - 1; unit++) scaled /= 1000;
  return `${Number(scaled.toPrecision(3))}${units[unit]}`;
}

/** 0.413 -> "41 %"; small ones have a decimal. */
export function percent(share: number): string {
  return `${(100 * share).toFixed(share > 0 && share < 0.0995 ? 1 : 0)} %`;
}

/** "45 s", "2 min 5 s", "1 h 20 min", "3 d 4 h" */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return "?";
  const whole = Math.max(0, Math.round(seconds));
  const sizes = [86_400, 3600, 60, 1];
  const first = Math.max(
    0,
    sizes.findIndex((size) => whole >= size),
  );
  const at = whole === 0 ? 3 : first;
  const units = ["d", "h", "min", "s"];
  const parts = [`${Math.floor(whole / sizes[at]!)} ${units[at]}`];
  if (at < 3) {
    const next = Math.floor((whole % sizes[at]!) / sizes[at + 1]!);
    if (next > 0) parts.push(`${next} ${units[at + 1]}`);
  }
  return parts.join(" ");
}

/** Round numbers from `low` to `high`, about `count` of them. */
export function ticks(low: number, high: number, count: number): number[] {
  const span = high - low;
  if (!(span > 0) || !Number.isFinite(span)) return [low];
  const power = 10 ** Math.floor(Math.log10(span / count));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => span / size <= count)!;
  const found: number[] = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) {
    found.push(Number((i * step).toPrecision(12)));
  }
  return found;
}

/** A table for the terminal: the first column to the left, the others to the right. */
export function alignTable(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const pad = (cell: string, column: number) =>
    column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!);
  return rows.map((row) => row.map(pad).join("  ").trimEnd()).join("\n");
}

/** The same in Markdown, one line for each row. */
export function markdownTable([heading = [], ...lines]: readonly (readonly string[])[]): string[] {
  const widths = heading.map((head, i) => Math.max(head.length, ...lines.map((line) => line[i]!.length)));
  const row = (cells: readonly string[]) =>
    `| ${cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join(" | ")} |`;
  const rule = widths.map((width, i) => (i === 0 ? "-".repeat(width + 2) : `${"-".repeat(width + 1)}:`));
  return [row(heading), `|${rule.join("|")}|`, ...lines.map(row)];
}
