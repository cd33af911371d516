// The random weights that a model starts with: each is a function of the seed and the weight's name.

import { inPieces } from "../common/breathe.ts";
import { fillNormal, keyOf } from "../common/rng.ts";
import type { Parameter } from "./parameter.ts";

type Fill = (from: number, to: number) => void;

/** Weights that start at random, each with what fills a range of its numbers. */
function* randomOnes(parameters: readonly Parameter[], seed: number): Generator<[size: number, fill: Fill]> {
  for (const { name, init, size, data } of parameters) {
    if (!("normal" in init)) continue;
    const key = keyOf(seed, "init", name);
    yield [size, (from, to) => fillNormal(data.subarray(from, to), key, init.normal, from)];
  }
}

/** Draw the random weights of these parameters. */
export function randomWeights(parameters: readonly Parameter[], seed: number): void {
  for (const [size, fill] of randomOnes(parameters, seed)) fill(0, size);
}

/** The same numbers; the event loop has its turns meanwhile. */
export async function randomWeightsInPieces(parameters: readonly Parameter[], seed: number): Promise<void> {
  for (const [size, fill] of randomOnes(parameters, seed)) await inPieces(size, fill);
}
