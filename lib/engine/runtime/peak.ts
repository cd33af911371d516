// The machine's peak rate, for MFU: that of square matrix products on the same engine and threads, so it is the peak of this engine on
// this machine, not of a data sheet. It is the fastest of many: on a shared machine other work interrupts most products, long ones
// nearly always, and one undisturbed run is enough. So it takes products of several sizes, and a training run measures again now
// and then.

import { tf } from "../../common/tf.ts";

import type { Engine } from "./program.ts";

/** A square matrix product, ready to run. */
export interface Product {
  run(): Promise<unknown>;
  dispose(): Promise<void>;
}
export type MakeProduct = (n: number) => Promise<Product>;

const SIZES = [128, 256, 512, 1024, 2048]; // small ones fit between two interruptions, large ones have the full rate
const RUNS = { least: 4, most: 100 }; // runs per size
const ENOUGH = 25; // ms per size
const LONG = 4; // ms: a size whose fastest product takes longer is the last, as the next takes eight times as long
const PAUSE = 30_000; // ms between measurements

/** Peak rate in FLOP/s. Takes some 0.1 s. */
export async function measurePeak(
  engine: Engine,
  make: MakeProduct = (n) => productOf(engine, n),
  now = () => performance.now(),
): Promise<number> {
  let peak = 0;
  for (const n of SIZES) {
    const product = await make(n);
    let best = Number.POSITIVE_INFINITY; // ms
    const begin = now();
    for (let i = 0; i < RUNS.most && (i < RUNS.least || now() - begin < ENOUGH); i++) {
      const start = now();
      await product.run();
      best = Math.min(best, now() - start);
    }
    await product.dispose();
    peak = Math.max(peak, (2 * n ** 3) / (best / 1000));
    if (best > LONG) break;
  }
  return peak;
}

/** The highest rate seen so far: measured when it is first asked for, and again now and then. */
export class Peak {
  readonly #measure: () => Promise<number>;
  readonly #log: (line: string) => void;
  readonly #now: () => number;
  #flops = 0;
  #looked = 0;

  /** @param log gets the rate, and a higher one later */
  constructor(
    engine: Engine,
    log: (line: string) => void,
    measure = () => measurePeak(engine),
    now: () => number = () => performance.now(),
  ) {
    this.#measure = measure;
    this.#log = log;
    this.#now = now;
  }

  /** In FLOP/s. */
  async flops(): Promise<number> {
    if (this.#flops === 0) {
      await this.#look();
      this.#log(`peak: ${this} in a matrix product on this device; mfu is measured against it`);
    }
    return this.#flops;
  }

  /** Look again, if the rate is in use and that was not just done. */
  async lookAgain(): Promise<void> {
    if (this.#flops === 0 || this.#now() - this.#looked < PAUSE) return;
    const before = this.#flops;
    await this.#look();
    if (this.#flops > 1.02 * before) this.#log(`peak: ${this}, now that the machine was less busy`);
  }

  async #look(): Promise<void> {
    this.#flops = Math.max(this.#flops, await this.#measure());
    this.#looked = this.#now();
  }

  /** "221 GFLOP/s" */
  toString(): string {
    return `${Number((this.#flops / 1e9).toPrecision(3))} GFLOP/s`;
  }
}

/** The product of two matrices in arrays that the engine reads directly: nothing is copied. */
async function productOf(engine: Engine, n: number): Promise<Product> {
  const shape = [n, n];
  const value = tf.scalar(0); // a placeholder until the engine has its own
  const [a, b] = ["a", "b"].map((name) => ({
    name,
    shape,
    data: new Float32Array(n * n).fill(0.5),
    value: value as tf.Tensor,
  }));
  const product = await engine.program(() => tf.matMul(a!.value as tf.Tensor2D, b!.value as tf.Tensor2D), {
    variables: [a!, b!],
    inputs: {},
  });
  value.dispose();
  return { run: () => product.run({}), dispose: () => product.dispose() };
}
