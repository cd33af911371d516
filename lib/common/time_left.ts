// Estimates the time left from the pace so far: all of it since the first unit was done, so that occasional work (an evaluation)
// counts as much as it will later. The first unit itself may include startup.

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

  /** @param time in ms, of a monotonic clock */
  constructor(total: number, start: number, time: number) {
    this.#total = total;
    this.#start = { time, done: start };
    this.#last = this.#start;
  }

  /** Record progress at `time`. If it isn't more than before, it says nothing about the pace. */
  update(done: number, time: number): void {
    if (done <= this.#last.done) {
      if (done < this.#last.done) this.#first = this.#last = { time, done }; // a rollback: begin again
      return;
    }
    this.#last = { time, done };
    this.#first ??= this.#last;
  }

  /** "2 min 5 s left"; undefined if there is nothing to go by. */
  get text(): string | undefined {
    const { time, done } = this.#last;
    const from = this.#first !== undefined && done > this.#first.done ? this.#first : this.#start;
    if (done <= from.done) return undefined;
    const left = (Math.max(0, this.#total - done) * (time - from.time)) / (done - from.done);
    return Number.isFinite(left) ? `${duration(left / 1000)} left` : undefined;
  }
}
