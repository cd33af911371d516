// kill -9 at a few moments of an export; `npx tsx tests/kill_export.ts --kills=50` takes more of them.

import assert from "node:assert/strict";
import { test } from "node:test";

import { killExports } from "./kill_export.ts";
import { temporaryFolder } from "./scripts.ts";

test("exports that are killed lose nothing and can be repeated", async () => {
  const { kills, writing } = await killExports(temporaryFolder(), 6);
  assert.equal(kills, 6);
  assert.ok(writing >= 1, "no kill fell into the writing");
});
