// Ctrl-C and termination signals. A script with nothing to save ends at once, with a line, and its "exit" listeners clean up. One
// that has something to save, or another way to end, listens itself (listenForInterrupt).

import { constants } from "node:os";

import { answerTsx } from "./tsx_relay.ts";

const SIGNALS = ["SIGINT", "SIGTERM"] as const;

/** One Ctrl-C comes up to four times: the terminal sends it to npx or npm, to tsx and to the script, and the others pass it on.
 * A signal this soon after the first is its echo. */
export const ECHO = 500; // ms

/** The exit code that shells give a process ended by a signal. */
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

/** A request to stop. */
export interface Interrupt {
  /** The signal received, if any. */
  readonly heard: NodeJS.Signals | undefined;
  /** Aborted by the signal: for runs that can be cancelled. */
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
