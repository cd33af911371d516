// Stop strings: text that arrives in pieces ends where one of them is complete.

/** Passes text on up to the first stop string, without it. What may be the beginning of one is held back. */
export class StopFilter {
  readonly #stops: readonly string[];
  #held = ""; // always the beginning of a stop string
  stopped = false;

  constructor(stops: readonly string[]) {
    this.#stops = stops;
  }

  /** The next piece of text -> what surely precedes a stop string; nothing after one. The first one to be complete counts, so the
   * result doesn't depend on the pieces; of several that end together, the longest. */
  push(piece: string): string {
    if (this.stopped) return "";
    const text = this.#held + piece;
    const found = this.#stops.map((stop) => ({ start: text.indexOf(stop), stop })).filter(({ start }) => start >= 0);
    const [first] = found.sort((a, b) => a.start + a.stop.length - (b.start + b.stop.length) || a.start - b.start);
    this.stopped = first !== undefined;
    const end = first ? first.start : text.length - this.#beginning(text);
    this.#held = first ? "" : text.slice(end);
    return text.slice(0, end);
  }

  /** The text held back, at the end. */
  end(): string {
    const rest = this.#held;
    this.#held = "";
    return rest;
  }

  /** The length of the longest suffix of `text` that is a prefix of a stop string. */
  #beginning(text: string): number {
    const lengths = this.#stops.map((stop) => {
      let length = Math.min(stop.length - 1, text.length);
      while (length > 0 && !text.endsWith(stop.slice(0, length))) length--;
      return length;
    });
    return Math.max(0, ...lengths);
  }
}
