// Ctrl-C and termination signals while a run trains: the first is heard between two steps, the second ends the process.

import { shellWords } from "../config/scripts.ts";

/** Calls `heard` at the first signal; the function that is returned gives it, once there was one. */
export function listenForInterrupt(heard: (signal: NodeJS.Signals) => void): () => NodeJS.Signals | undefined {
  let interrupted: NodeJS.Signals | undefined;
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    // once, so that the second Ctrl-C is the system's own
    process.once(signal, () => {
      interrupted ??= signal;
      heard(signal);
    });
  }
  return () => interrupted;
}

/** The command line's arguments with --init_from=resume for whatever --init_from was, to be pasted into a shell. */
export function resumeArguments(args: readonly string[]): string {
  const others = args.filter((arg, i) => !/^--init_from(=|$)/.test(arg) && args[i - 1] !== "--init_from");
  return shellWords([...others, "--init_from=resume"]);
}
