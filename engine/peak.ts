// What the machine can do at best, for judging what a step does: the rate of a square matrix product on the same
// engine, so it is the peak of this engine on this machine and not of a data sheet.

import * as tf from "@tensorflow/tfjs";

import type { Engine } from "./program.ts";

const SIZE = 1024; // large enough for the full rate on a CPU
const ENOUGH = 10; // ms: a smaller product that takes this long is measured instead (a plain tfjs backend)

/** Peak rate in FLOP/s: the fastest of a few products. Takes some 0.1 s. */
export async function measurePeak(engine: Engine): Promise<number> {
  for (let n = 128; ; n *= 2) {
    const shape = [n, n];
    const inputs = { a: { shape, dtype: "float32" }, b: { shape, dtype: "float32" } } as const;
    const product = await engine.program(({ a, b }) => tf.matMul(a as tf.Tensor2D, b as tf.Tensor2D), {
      variables: [],
      inputs,
    });
    const data = new Float32Array(n * n).fill(0.5);
    const times: number[] = [];
    for (let i = 0; i < 6; i++) {
      const start = performance.now();
      await product.run({ a: data, b: data });
      times.push(performance.now() - start);
    }
    await product.dispose();
    const best = Math.min(...times);
    if (n === SIZE || best > ENOUGH) return (2 * n ** 3) / (best / 1000);
  }
}
