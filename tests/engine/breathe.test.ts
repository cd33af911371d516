// Long work in pieces.

import assert from "node:assert/strict";
import { test } from "node:test";

import { breathe, inPieces } from "../../engine/breathe.ts";

test("the pieces are all of the numbers, in their order", async () => {
  for (const length of [0, 1, 1 << 20, (1 << 20) + 1, 3_500_000]) {
    let end = 0;
    await inPieces(length, (from, to) => {
      assert.equal(from, end);
      assert.ok(to > from && to - from <= 1 << 20);
      assert.equal(from % 8192, 0); // engine/simd.ts adds up the squares of so many at once
      end = to;
    });
    assert.equal(end, length);
  }
});

test("work of a second lets the event loop have its turns", async () => {
  let turns = 0;
  const timer = setInterval(() => turns++, 1);
  for (const start = performance.now(); performance.now() - start < 200; ) await breathe();
  clearInterval(timer);
  assert.ok(turns >= 5, `${turns} turns`);
});
