// A dataset of pairs for an encoder-decoder, one token per character: source and target, both padded to one length with the end token, so that
// a pair is found without an index. Left out: other tokens than characters.

import { UserError } from "../common/errors.ts";
import { keyOf, uniform } from "../common/rng.ts";
import { CharacterCount, characterEncoder, characterMeta } from "./characters.ts";
import type { CharacterMeta, Complete } from "./meta.ts";
import type { SourcedText } from "./text.ts";
import { writeDataset } from "./write_dataset.ts";

export type Pair = readonly [source: string, target: string];

const END = "\n"; // no line has one in it

/** Lines of "source<TAB>target"; empty ones are skipped. @throws UserError with the first invalid one */
export function parsePairs(text: string, where: string): Pair[] {
  return text.split(/\r?\n/).flatMap((line, i): Pair[] => {
    if (line === "") return [];
    const parts = line.split("\t");
    if (parts.length === 2 && parts[0] !== "" && parts[1] !== "") return [[parts[0]!, parts[1]!]];
    throw new UserError(`${where}, line ${i + 1} is not "source<TAB>target"; give one pair per line`);
  });
}

/** Every distinct word of a text, in lower case, with its reversal: a task without its own data that shows at once whether cross-attention
 * works. */
export function reversedWords(text: string): Pair[] {
  const words = new Set(text.toLowerCase().match(/[a-z]{2,15}/g));
  return [...words].sort().map((word) => [word, [...word].reverse().join("")]);
}

/**
 * Write train.bin (9 of 10 pairs, chosen at random), val.bin (the others) and meta.json into `directory`; returns meta.json's
 * content. Pairs of more than `length` characters, with the end, are left out; 0 for the longest's length.
 * @throws UserError if fewer than 20 are left; then nothing is written
 */
export function preparePairs(
  all: readonly Pair[],
  { source, text }: SourcedText,
  { directory, length: wanted, seed = 1337 }: { directory: string; length: number; seed?: number },
): { meta: Complete<CharacterMeta>; left: number } {
  const sizes = all.map((pair) => Math.max(...pair.map((text) => [...text].length)) + 1);
  const length = wanted || Math.max(2, ...new Set(sizes));
  const pairs = all.filter((_, i) => sizes[i]! <= length);
  if (pairs.length < 20) {
    throw new UserError(`${source.name} has ${pairs.length} pairs of up to ${length} characters; 20 are the least`);
  }
  const count = new CharacterCount();
  for (const text of [END, ...pairs.flat()]) count.add(text);
  const itos = count.vocabulary(source.name);
  const encode = characterEncoder(itos);
  const end = encode(END)[0]!;

  const key = keyOf(seed, "pairs");
  const order = pairs.map((_, i) => [uniform(key, i), i] as const).sort(([a], [b]) => a - b);
  const tokens = new Uint16Array(pairs.length * 2 * length).fill(end);
  for (const [place, [, i]] of order.entries()) {
    for (const [side, text] of pairs[i]!.entries()) tokens.set(encode(text), (2 * place + side) * length);
  }
  const split = 2 * length * Math.floor(0.9 * pairs.length);
  const from = { ...source, characters: [...text].length };
  const meta = { ...characterMeta(itos, from, { train: split, val: tokens.length - split }), pairs: { length, end } };
  writeDataset(directory, tokens.subarray(0, split), tokens.subarray(split), meta);
  return { meta, left: all.length - pairs.length };
}
