// Counter-based random numbers without state: each is a function of a key (the purpose) and a counter (the index), so a resumed run
// gets the numbers that the interrupted one would have had, and any part can be generated alone or out of order.
//
// The function is a keyed 32-bit mixer: two multiply-and-shift rounds with the constants of Chris Wellons'
// "hash-prospector" (lowbias32), each preceded by a word of the key. Not for cryptography.

import { keepMask } from "./simd.ts";

/** Two words that choose one of 2^64 streams. */
export type Key = readonly [number, number];

/** The stream that `parts` name, such as `keyOf(seed, "dropout", iteration, place)`. */
export function keyOf(...parts: readonly (number | string)[]): Key {
  let a = 0x243f6a88;
  let b = 0x85a308d3; // both from the digits of pi
  const absorb = (word: number) => {
    a = mix(word, a, b);
    b = mix(word ^ 0x13198a2e, b, a);
  };
  for (const part of parts) {
    if (typeof part === "number") {
      absorb(part | 0);
      absorb(Math.floor(part / 2 ** 32));
    } else {
      for (const character of part) absorb(character.codePointAt(0)!);
      absorb(-1); // a separator: ("ab", "c") differs from ("a", "bc")
    }
  }
  return [a, b];
}

/** 32 random bits, as a signed integer. For a fixed key no two counters give the same number. */
function mix(counter: number, k0: number, k1: number): number {
  let x = (counter + k0) | 0;
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d) ^ k1;
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return x ^ (x >>> 16);
}

/** The stream's number `index`, uniform in [0, 1) with 53 random bits. */
export function uniform([k0, k1]: Key, index: number): number {
  const high = mix(2 * index, k0, k1) >>> 5;
  const low = mix(2 * index + 1, k0, k1) >>> 6;
  return (high * 2 ** 26 + low) / 2 ** 53;
}

/** Fill `out` with normally distributed numbers of mean 0 and the given deviation (Box and Muller 1958), from 32 random
 * bits each: none is further out than 6.8 deviations. @param first which number of the stream `out` begins with, an even one */
export function fillNormal(out: Float32Array, [k0, k1]: Key, deviation: number, first = 0): void {
  for (let i = 0; i < out.length; i += 2) {
    const inUnit = ((mix(first + i, k0, k1) >>> 0) + 0.5) / 2 ** 32; // in (0, 1)
    const radius = deviation * Math.sqrt(-2 * Math.log(inUnit));
    const angle = ((2 * Math.PI) / 2 ** 32) * mix(first + i + 1, k0, k1);
    out[i] = radius * Math.cos(angle);
    if (i + 1 < out.length) out[i + 1] = radius * Math.sin(angle);
  }
}

/** Fill `out` with signed integers of `bits` bits, 1 to 32, uniformly distributed. */
export function fillIntegers(out: Int32Array, [k0, k1]: Key, bits: number): void {
  for (let i = 0; i < out.length; i++) out[i] = mix(i, k0, k1) >> (32 - bits);
}

/**
 * Fill `out` with 1 where an element is kept and 0 where it is dropped, independently with probability `rate` (to
 * within 2^-17, since each element takes 16 bits). Dropout needs one for every activation of the model.
 */
export function fillKeepMask(out: Uint8Array, [k0, k1]: Key, rate: number): void {
  const keep = Math.round((1 - rate) * 0x10000);
  if (keep > 0 && keep < 0x10000) keepMask(out, k0, k1, keep);
  else out.fill(keep ? 1 : 0);
}

/** The same, element by element: the reference for `fillKeepMask`. */
export function fillKeepMaskPlain(out: Uint8Array, [k0, k1]: Key, rate: number): void {
  const keep = Math.round((1 - rate) * 0x10000);
  for (let i = 0; i < out.length; i++) {
    const pair = mix(i >> 1, k0, k1);
    out[i] = (i % 2 === 0 ? pair & 0xffff : pair >>> 16) < keep ? 1 : 0;
  }
}
