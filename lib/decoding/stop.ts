// Stop strings: a text that appears piece by piece ends where one of them is complete.

/** Passes a text on up to the first stop string, which it leaves out. What may be the beginning of one is held back. */
export class StopFilter {
  readonly #stops: readonly string[];
  #held = ""; // always the beginning of a stop string
  stopped = false;

  constructor(stops: readonly string[]) {
    this.#stops = stops;
  }

  /** More of the text -> what is sure to belong to it. Nothing comes after a stop string. The first one to be complete
   * counts, so the result doesn't depend on the pieces; of several that end together, the longest. */
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

  /** What was held back, when nothing more comes. */
  end(): string {
    const rest = this.#held;
    this.#held = "";
    return rest;
  }

  /** The length of the longest end of `text` with which a stop string begins. */
  #beginning(text: string): number {
    const lengths = this.#stops.map((stop) => {
      let length = Math.min(stop.length - 1, text.length);
      while (length > 0 && !text.endsWith(stop.slice(0, length))) length--;
      return length;
    });
    return Math.max(0, ...lengths);
  }
}
