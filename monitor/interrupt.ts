// Ctrl-C and termination signals while a run trains: the first is heard between two steps, the second ends the process.

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
