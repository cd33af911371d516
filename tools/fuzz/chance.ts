// Random choices, a function of the seed.

import { type Key, keyOf, uniform } from "../../lib/common/rng.ts";

export class Chance {
  readonly #key: Key;
  #count = 0;

  /** @param parts the purpose, such as the seed and the case's number */
  constructor(...parts: (number | string)[]) {
    this.#key = keyOf("fuzz", ...parts);
  }

  /** An integer from 0 to below `n`. */
  below(n: number): number {
    return Math.floor(uniform(this.#key, this.#count++) * n);
  }

  /** True in a share of the calls. */
  is(share: number): boolean {
    return uniform(this.#key, this.#count++) < share;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!;
  }
}
