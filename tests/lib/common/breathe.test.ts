// Long work in pieces.

import assert from "node:assert/strict";
import { test } from "node:test";

import { breathe, inPieces } from "../../../lib/common/breathe.ts";

test("the pieces are all of the numbers, in their order", async () => {
  for (const length of [0, 1, 1 << 20, (1 << 20) + 1, 3_500_000]) {
    let end = 0;
    await inPieces(length, (from, to) => {
      assert.equal(from, end);
      assert.ok(to > from && to - from <= 1 << 20);
      assert.equal(from % 8192, 0); // lib/common/simd.ts adds up the squares of so many at once
      end = to;
    });
    assert.equal(end, length);
  }
});

test("long work lets the event loop have its turns", async () => {
  let turns = 0;
  const timer = setInterval(() => turns++, 1);
  // a tenth of a second is enough for five; the limit is for a breathe that gives none
  for (const start = performance.now(); turns < 5 && performance.now() - start < 30_000; ) await breathe();
  clearInterval(timer);
  assert.equal(turns, 5);
});
