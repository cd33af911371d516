// Random initialization: each weight is a function of the seed and its name.

import { inPieces } from "../common/breathe.ts";
import { fillNormal, keyOf } from "../common/rng.ts";
import type { Parameter } from "./parameter.ts";

type Fill = (from: number, to: number) => void;

/** Randomly initialized weights, each with a function that fills a range of its numbers. */
function* randomOnes(parameters: readonly Parameter[], seed: number): Generator<[size: number, fill: Fill]> {
  for (const { name, init, size, data } of parameters) {
    if (!("normal" in init)) continue;
    const key = keyOf(seed, "init", name);
    yield [size, (from, to) => fillNormal(data.subarray(from, to), key, init.normal, from)];
  }
}

/** Fill the random weights of these parameters. */
export function randomWeights(parameters: readonly Parameter[], seed: number): void {
  for (const [size, fill] of randomOnes(parameters, seed)) fill(0, size);
}

/** The same numbers; yields to the event loop meanwhile. */
export async function randomWeightsInPieces(parameters: readonly Parameter[], seed: number): Promise<void> {
  for (const [size, fill] of randomOnes(parameters, seed)) await inPieces(size, fill);
}
