// Where a run's time goes: at the end of a piece of work the caller names it.

export class Clock {
  #last = performance.now();
  #seconds: Record<string, number> = {};

  /** Count the time since the last lap as spent on `name`. @returns that time, in seconds */
  lap(name: string): number {
    const now = performance.now();
    const seconds = (now - this.#last) / 1000;
    this.#last = now;
    this.#seconds[name] = (this.#seconds[name] ?? 0) + seconds;
    return seconds;
  }

  /** Seconds by name since the last call. */
  take(): Record<string, number> {
    const taken = this.#seconds;
    this.#seconds = {};
    return taken;
  }
}
