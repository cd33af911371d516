// How long work will still take, by how long it has taken so far: all of it since the first unit was done, so that what
// happens now and then (an evaluation) counts as much as it will later. Units before that may have waited for a start.

import { duration } from "./format.ts";

interface Moment {
  time: number; // ms
  done: number;
}

export class TimeLeft {
  readonly #total: number;
  readonly #start: Moment;
  #first: Moment | undefined; // when the first unit was done
  #last: Moment;

  /** @param time in ms, of a clock that only goes on */
  constructor(total: number, start: number, time: number) {
    this.#total = total;
    this.#start = { time, done: start };
    this.#last = this.#start;
  }

  /** So much was done at `time`. Where it is no more than before, it says nothing about the pace. */
  update(done: number, time: number): void {
    if (done <= this.#last.done) {
      if (done < this.#last.done) this.#first = this.#last = { time, done }; // a rollback: begin again
      return;
    }
    this.#last = { time, done };
    this.#first ??= this.#last;
  }

  /** "2 min 5 s left"; undefined where nothing tells. */
  get text(): string | undefined {
    const { time, done } = this.#last;
    const from = this.#first !== undefined && done > this.#first.done ? this.#first : this.#start;
    if (done <= from.done) return undefined;
    const left = (Math.max(0, this.#total - done) * (time - from.time)) / (done - from.done);
    return Number.isFinite(left) ? `${duration(left / 1000)} left` : undefined;
  }
}
