// Safe output: names, paths, samples and errors come from files and models, and a terminal executes escape sequences. So every line
// of console.log and the like passes through one function. Left out: what is written to process.stdout directly, sample.ts' text
// and the monitor's screen, which escape it themselves.

import { format } from "node:util";

import { shownText } from "./printable.ts";

let guarded = false;

/** From here on the console's lines are plain text, without passwords in addresses. */
export function guardConsole(): void {
  if (guarded) return;
  guarded = true;
  for (const name of ["log", "info", "warn", "error", "debug"] as const) {
    const print = console[name].bind(console);
    console[name] = (...values: unknown[]) => print("%s", shownText(format(...values)));
  }
}
