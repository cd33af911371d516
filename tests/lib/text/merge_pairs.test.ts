import assert from "node:assert/strict";
import test from "node:test";

import { mergePairs } from "../../../lib/text/merge_pairs.ts";
import { randomNumbers } from "./support.ts";

/** The definition: join the pair of the lowest rank, the leftmost of equal ones, until there is none. */
function plainMerge(bytes: string, rankOf: ReadonlyMap<string, number>): number[] {
  const parts = [...bytes];
  for (;;) {
    const ranks = parts.slice(1).map((part, i) => rankOf.get(parts[i] + part) ?? Number.POSITIVE_INFINITY);
    const lowest = Math.min(...ranks);
    if (!Number.isFinite(lowest)) return parts.map((part) => rankOf.get(part) ?? -1);
    parts.splice(ranks.indexOf(lowest), 2, parts.slice(ranks.indexOf(lowest)).slice(0, 2).join(""));
  }
}

test("merges as the definition says, whatever the ranks", () => {
  const random = randomNumbers(8);
  const pick = (from: string) => from[Math.floor(random() * from.length)]!;
  for (let round = 0; round < 300; round++) {
    // an alphabet of three and tokens made of earlier ones: many ties and overlaps
    const letters = "abc";
    const tokens = [...letters];
    for (let i = 0; i < 30; i++) {
      const token = tokens[Math.floor(random() * tokens.length)]! + tokens[Math.floor(random() * tokens.length)]!;
      if (token.length <= 8 && !tokens.includes(token)) tokens.push(token);
    }
    const order = tokens.map((token) => ({ token, at: random() })).sort((a, b) => a.at - b.at);
    const rankOf = new Map(order.map(({ token }, rank) => [token, rank]));
    const word = Array.from({ length: Math.floor(random() * 40) }, () => pick(letters)).join("");
    assert.deepEqual(mergePairs(word, rankOf), plainMerge(word, rankOf), `${word} of ${[...rankOf.keys()]}`);
  }
});
