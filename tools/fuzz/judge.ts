// Judges a reader's run: for any input it must end well, or with a one-line error.

import type { Ended } from "../../lib/common/child.ts";

const LONGEST = 1000; // characters of a line: more is no message any more

/** What was wrong with the end of a run; undefined if nothing. */
export function faultOf({ code, signal, stderr }: Pick<Ended, "code" | "signal" | "stderr">): string | undefined {
  if (signal !== null) return `ended by ${signal}`;
  if (/^ {4}at .+:\d+:\d+\)?$/m.test(stderr)) return "a stack";
  const lines = stderr.split("\n").filter((line) => line !== "");
  const errors = lines.filter((line) => line.startsWith("error: "));
  if (code === 1 && (errors.length !== 1 || !lines.at(-1)!.startsWith("error: ")))
    return "an error that is not one line";
  if (code !== 0 && code !== 1) return `ended with code ${code}`;
  if (code === 0 && errors.length > 0) return "an error, but exit code 0";
  const control = lines.find((line) => /[\p{Cc}\p{Zl}\p{Zp}]/u.test(line.replaceAll("\t", "")));
  if (control !== undefined) return "a control character in a line";
  if (lines.some((line) => line.length > LONGEST)) return "a line that is too long";
  if (/\[object \w+\]|\binternal: /.test(errors[0] ?? "")) return "a line about the program's inside";
  return undefined;
}
