// Figures formatted for people.

import { significant } from "../../lib/common/format.ts";
import { METRICS } from "./results.ts";

/** A metric's value: losses with four digits after the point, counts with none. "-" for none. */
export function formatMetric(name: string, value: number | null | undefined): string {
  if (value === undefined) return "-";
  if (value === null || !Number.isFinite(value)) return "not a number";
  const digits = METRICS[name]?.digits;
  if (digits === undefined) return significant(value);
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export function titleOf(metric: string): string {
  return METRICS[metric]?.title ?? metric;
}
