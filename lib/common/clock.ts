// Where a run's time goes: whoever ends a piece of work says what it was.

export class Clock {
  #last = performance.now();
  #seconds: Record<string, number> = {};

  /** The time since the last lap was spent on `name`. @returns that time, in seconds */
  lap(name: string): number {
    const now = performance.now();
    const seconds = (now - this.#last) / 1000;
    this.#last = now;
    this.#seconds[name] = (this.#seconds[name] ?? 0) + seconds;
    return seconds;
  }

  /** Seconds by name since the last call of this. */
  take(): Record<string, number> {
    const taken = this.#seconds;
    this.#seconds = {};
    return taken;
  }
}
