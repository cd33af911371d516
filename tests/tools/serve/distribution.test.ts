import assert from "node:assert/strict";
import { test } from "node:test";

import { likeliest } from "../../../tools/serve/distribution.ts";
import { randomFloats } from "../../support.ts";

test("the likeliest, in the order of a full sort, with their shares of the whole", () => {
  const logits = randomFloats("likeliest", [50]);
  const weights = [...logits].map(Math.exp);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const sorted = weights.map((_, token) => token).sort((a, b) => weights[b]! - weights[a]!);
  const found = likeliest(logits, 10, sorted[3]!);
  assert.deepEqual(
    found.map(({ token }) => token),
    sorted.slice(0, 10),
  );
  for (const { token, probability } of found) assert.ok(Math.abs(probability - weights[token]! / total) < 1e-12);
  assert.equal(likeliest(logits, 10, sorted[40]!)[10]?.token, sorted[40], "a chosen one that is not among them");
});

test("fewer tokens than asked for; equals in the order of their numbers; large logits", () => {
  assert.deepEqual(likeliest(Float32Array.of(1000, 2000, 1000, 2000), 10, 1), [
    { token: 1, probability: 0.5 },
    { token: 3, probability: 0.5 },
    { token: 0, probability: 0 },
    { token: 2, probability: 0 },
  ]);
});
