// What programs print: names, paths, samples and errors come from files and models, and a terminal obeys what it reads. So
// every line of console.log and the like passes through one function. Leaves out what is written to process.stdout itself:
// sample.ts's text and the monitor's screen, which see to it themselves.

import { format } from "node:util";

import { shownText } from "./printable.ts";

let guarded = false;

/** From now on the console's lines are text alone, without a password of an address. */
export function guardConsole(): void {
  if (guarded) return;
  guarded = true;
  for (const name of ["log", "info", "warn", "error", "debug"] as const) {
    const print = console[name].bind(console);
    console[name] = (...values: unknown[]) => print("%s", shownText(format(...values)));
  }
}
