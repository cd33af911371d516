// The search of the optimize stage: the settings of the fastest step on this machine, by bench.ts, and of the lowest loss in the same time, by
// short runs of train.ts. Candidates alternate and medians count, so that a temporary slowdown decides nothing, and a default is
// replaced only by something clearly better. Left out: the model's shape, and what a short run can't show (dropout, weight decay).

import { whole } from "../../lib/common/format.ts";
import { median } from "../../lib/common/statistics.ts";
import type { Found, Searched } from "./settings.ts";

/** A candidate and its measurements. */
export interface Try {
  key: Searched;
  value: number;
  tokens_per_s?: number[]; // one per round
  steps?: number; // of a training run
  val_loss?: number | null; // at its end, in nats a token; null if it was NaN
}

export interface SearchResult {
  found: Found; // only settings better than the default
  tried: Try[];
  seconds: number;
}

export interface SearchOptions {
  searched: ReadonlySet<Searched>;
  start: Required<Found>; // the defaults; threads and micro_batch_size resolved if they are 0
  tokens: number; // in a step for each sequence of batch_size
  eval_iters: number;
  most_steps: number; // for a training run
  seconds: number; // to search in
  /** The time of a step, in ms: the median of `steps`, in a separate process. */
  stepTime(candidate: Required<Found>, steps: number): Promise<number>;
  /** The validation loss after training for `steps`. */
  train(candidate: Required<Found>, steps: number): Promise<number>;
  say(line: string): void;
  now?: () => number; // ms
}

const ROUNDS = 3;
const FASTER = 1.03; // than the default, in every round
const LOWER = 0.995; // loss, for another learning rate
const MUCH_LOWER = 0.98; // for another batch: a short run favours small ones, which take more steps
const LEAST_STEPS = 50; // below which a training run shows nothing
const WEIGHTS = { threads: 1, batch_size: 1.5, learning_rate: 3, micro_batch_size: 1.5 }; // shares of the time, in this order

/** Search each of the settings in its share of the time; without time it keeps its default. */
export async function search(options: SearchOptions): Promise<SearchResult> {
  const { searched, start, tokens, say, now = () => performance.now() } = options;
  const began = now();
  const seconds = () => (now() - began) / 1000;
  const tried: Try[] = [];
  const best = { ...start };
  const found = () =>
    Object.fromEntries(Object.entries(best).filter(([key, value]) => start[key as Searched] !== value)) as Found;

  if (searched.size === 0) return { found: {}, tried, seconds: 0 };

  // 1) the time of a step and of a process without its steps, for planning
  const probe = 3;
  const ms = await options.stepTime(best, probe);
  const planned = seconds();
  const overhead = Math.max(0, planned - (2 * probe * ms) / 1000); // s
  const steps = Math.max(2, Math.min(40, Math.round(400 / ms))); // some 0.4 s, or two slow ones
  const weightOf = (keys: Iterable<Searched>) => [...keys].reduce((sum, key) => sum + WEIGHTS[key], 0);
  /** Seconds until the share of the time is over that belongs to `key` and those before it. */
  const left = (key: Searched) => {
    const order = Object.keys(WEIGHTS) as Searched[];
    const upTo = order.slice(0, order.indexOf(key) + 1).filter((name) => searched.has(name));
    return planned + (weightOf(upTo) / weightOf(searched)) * (options.seconds - planned) - seconds();
  };

  /** Candidates, the default first, in turns: tokens/s of each in each round; none without time for a round. */
  async function race(key: Searched, values: number[]): Promise<number[][]> {
    const speeds: number[][] = values.map(() => []);
    let round = values.length * (overhead + (ms * (steps + 3)) / 1000); // s
    for (let number = 0; number < ROUNDS && left(key) > (number === 0 ? 2 * round : round); number++) {
      const roundBegan = seconds();
      const order = [...values.keys()];
      if (number % 2 === 1) order.reverse(); // so that a gradual slowdown affects all alike
      for (const i of order) {
        const candidate = fitting({ ...best, [key]: values[i]! });
        const time = await options.stepTime(candidate, steps);
        speeds[i]!.push(Math.round((1000 * candidate.batch_size * tokens) / time));
      }
      round = seconds() - roundBegan;
    }
    if (speeds[0]!.length === 0) say(label(key, `${best[key]} kept: no time to measure others`));
    else tried.push(...values.map((value, i) => ({ key, value, tokens_per_s: speeds[i]! })));
    return speeds[0]!.length > 0 ? speeds : [];
  }

  /** The micro-batch must divide the batch: if it no longer does, the whole batch. */
  function fitting(candidate: Required<Found>): Required<Found> {
    const fits = candidate.batch_size % candidate.micro_batch_size === 0;
    return fits ? candidate : { ...candidate, micro_batch_size: candidate.batch_size };
  }

  async function fastest(key: Searched, values: number[]): Promise<void> {
    if (values.length < 2) return;
    const speeds = await race(key, values);
    if (speeds.length === 0) return;
    best[key] = values[pickFastest(speeds)]!;
    const figures = values.map((value, i) => `${value}: ${whole(median(speeds[i]!))}`);
    say(label(key, `${figures.join(", ")} tokens/s ${rounds(speeds)} -> ${best[key]}`));
  }

  // 2) threads
  if (searched.has("threads")) await fastest("threads", halves(best.threads, 2));

  // 3) batch sizes: only their speed; their loss comes later
  const sizes = [start.batch_size];
  const speedOf = new Map<number, number>();
  if (searched.has("batch_size")) {
    const part = searched.has("micro_batch_size") ? 1 : best.micro_batch_size;
    const others = [start.batch_size / 2, start.batch_size * 2].filter((size) => size % part === 0);
    const values = [start.batch_size, ...others];
    const speeds = await race("batch_size", values);
    if (speeds.length > 0) {
      for (const [i, value] of values.entries()) speedOf.set(value, median(speeds[i]!));
      sizes.push(...others);
      const figures = values.map((value, i) => `${value}: ${whole(median(speeds[i]!))}`);
      say(label("batch_size", `${figures.join(", ")} tokens/s ${rounds(speeds)}`));
    }
  }

  // 4) the loss: learning rates in runs over the same sequences, then batch sizes in runs of the same time
  if (searched.has("learning_rate") || sizes.length > 1) {
    const first = searched.has("learning_rate") ? "learning_rate" : "batch_size";
    const most = (searched.has("learning_rate") ? 4 : 1) + sizes.length - 1; // runs
    const least = Math.min(LEAST_STEPS, options.most_steps);
    const evaluations = (options.eval_iters * 4 * ms) / 3000; // s: two splits twice, forward is a third of a step
    /** Steps of a run, for this many runs in this many seconds; 0.8 as a margin. */
    const stepsIn = (time: number, runs: number) =>
      Math.min(options.most_steps, Math.floor((800 * (time / runs - overhead - evaluations)) / ms));
    // it matters more than the later ones: if its own time is too short it takes theirs, and then makes fewer runs
    let deadline = left(first) + seconds();
    let runSteps = stepsIn(deadline - seconds(), most);
    for (const runs of [most, 2]) {
      if (runSteps >= least) break;
      deadline = options.seconds;
      runSteps = stepsIn(deadline - seconds(), runs);
    }
    let longest = 0; // s
    /** The loss, or undefined without time for another run. */
    const run = async (key: Searched, candidate: Required<Found>, steps: number) => {
      if (longest > deadline - seconds()) return undefined;
      const runBegan = seconds();
      const loss = await options.train(candidate, steps);
      longest = Math.max(longest, seconds() - runBegan);
      tried.push({ key, value: candidate[key], steps, val_loss: Number.isFinite(loss) ? loss : null });
      return Number.isNaN(loss) ? Number.POSITIVE_INFINITY : loss;
    };
    let loss = runSteps < least ? undefined : await run(first, best, runSteps);
    if (loss === undefined) {
      if (searched.has("learning_rate"))
        say(label("learning_rate", `${best.learning_rate} kept: no time for short runs`));
      if (sizes.length > 1) say(label("batch_size", `${best.batch_size} kept: no time for short runs`));
    } else {
      if (searched.has("learning_rate")) {
        const losses = [`${best.learning_rate}: ${inWords(loss)}`];
        const lossAt = async (learning_rate: number) => {
          const loss = await run("learning_rate", { ...best, learning_rate }, runSteps);
          if (loss !== undefined) losses.push(`${learning_rate}: ${inWords(loss)}`);
          return loss;
        };
        [best.learning_rate, loss] = await climb(best.learning_rate, loss, lossAt, 3);
        say(
          label(
            "learning_rate",
            `${losses.join(", ")} validation loss after ${runSteps} steps -> ${best.learning_rate}`,
          ),
        );
      }
      const losses = [`${start.batch_size}: ${inWords(loss)} after ${runSteps} steps`];
      for (const size of sizes.slice(1)) {
        const gain = speedOf.get(size)! / speedOf.get(start.batch_size)!;
        const steps = Math.max(1, Math.round((runSteps * gain * start.batch_size) / size));
        const other = await run("batch_size", fitting({ ...best, batch_size: size }), steps);
        if (other === undefined) break;
        losses.push(`${size}: ${inWords(other)} after ${steps}`);
        if (other < loss * MUCH_LOWER) [best.batch_size, loss] = [size, other];
      }
      if (losses.length > 1) say(label("batch_size", `${losses.join(", ")} in the same time -> ${best.batch_size}`));
    }
  }

  // 5) the micro-batch size of that batch
  if (searched.has("micro_batch_size")) {
    best.micro_batch_size = fitting(best).micro_batch_size;
    await fastest("micro_batch_size", divisorsAround(best.batch_size, best.micro_batch_size));
  }
  return { found: found(), tried, seconds: Math.round(10 * seconds()) / 10 };
}

/** The candidate that is fastest by its median and in each of two or more rounds faster than the first; else the first. */
export function pickFastest(speeds: readonly (readonly number[])[]): number {
  const [first = []] = speeds;
  if (first.length < 2) return 0; // a single round proves nothing
  const order = [...speeds.keys()].sort((a, b) => median([...speeds[b]!]) - median([...speeds[a]!]));
  return order.find((i) => i === 0 || speeds[i]!.every((speed, round) => speed > FASTER * first[round]!)) ?? 0;
}

/** Double a learning rate while that lowers the loss, or else halve it; the best one and its loss.
 * @param lossAt undefined without time left */
export async function climb(
  rate: number,
  loss: number,
  lossAt: (rate: number) => Promise<number | undefined>,
  runs: number,
): Promise<[rate: number, loss: number]> {
  let best: [number, number] = [rate, loss];
  for (const factor of [2, 0.5]) {
    while (runs-- > 0) {
      const next = Number((best[0] * factor).toPrecision(6));
      const lower = await lossAt(next);
      if (lower === undefined) return best;
      if (!(lower < best[1] * LOWER)) break;
      best = [next, lower];
    }
    if (best[0] !== rate) break; // it went up: going down repeats earlier rates
  }
  return best;
}

/** n, n / 2, n / 4, ... as integers down to 1. */
function halves(n: number, times: number): number[] {
  return [...new Set(Array.from({ length: times + 1 }, (_, i) => Math.max(1, n >> i)))];
}

/** `near` and the divisors of n about half and twice as large. */
function divisorsAround(n: number, near: number): number[] {
  const divisors = Array.from({ length: n }, (_, i) => i + 1).filter((d) => n % d === 0);
  const smaller = divisors.findLast((d) => d <= near / 2);
  const larger = divisors.find((d) => d >= near * 2);
  return [near, ...[smaller, larger].filter((d) => d !== undefined)];
}

function label(key: Searched, text: string): string {
  return `${key.padEnd(17)} ${text}`;
}

function rounds(speeds: number[][]): string {
  const n = speeds[0]!.length;
  return n === 1 ? "(one round)" : `(median of ${n} rounds)`;
}

function inWords(loss: number): string {
  return Number.isFinite(loss) ? loss.toFixed(4) : "NaN";
}
