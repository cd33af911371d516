// Ctrl-C and termination signals. A script with nothing to keep ends at once, with a line, and what listens to its "exit" tidies up.
// One that has something to keep listens itself (listenForInterrupt), and so does one that leaves its own way.

import { constants } from "node:os";

import { answerTsx } from "./tsx_relay.ts";

const SIGNALS = ["SIGINT", "SIGTERM"] as const;

/** One Ctrl-C comes up to four times: the terminal sends it to npx or npm, to tsx and to the script, and the others pass it on.
 * What comes so soon after the first is the same one. */
export const ECHO = 500; // ms

/** The exit code of a process that was ended by a signal, as shells have it. */
export const exitCodeOf = (signal: NodeJS.Signals) => 128 + constants.signals[signal];

let ends = false;

/** From here on a signal ends the process, unless it has another listener. */
export function endAtSignals(): void {
  if (ends) return;
  ends = true;
  const heard = answerTsx(Object.fromEntries(SIGNALS.map((signal) => [signal, constants.signals[signal]])));
  for (const signal of SIGNALS) {
    process.on(signal, () => {
      heard();
      if (process.listenerCount(signal) > 1) return;
      console.error(`${signal}: stopped`);
      process.exit(exitCodeOf(signal));
    });
  }
}

/** A wish to stop. */
export interface Interrupt {
  /** What was heard, if anything was. */
  readonly heard: NodeJS.Signals | undefined;
  /** Aborted by it: for runs that may be cancelled. */
  readonly abort: AbortSignal;
}

/** Calls `answer` at the first signal, once; the second ends the process at once. */
export function listenForInterrupt(answer: (signal: NodeJS.Signals) => void): Interrupt {
  const controller = new AbortController();
  let first: { signal: NodeJS.Signals; time: number } | undefined;
  for (const signal of SIGNALS) {
    process.on(signal, () => {
      if (first && performance.now() - first.time < ECHO) return;
      if (first) process.exit(exitCodeOf(signal));
      first = { signal, time: performance.now() };
      answer(signal);
      controller.abort();
    });
  }
  return {
    get heard() {
      return first?.signal;
    },
    abort: controller.signal,
  };
}
