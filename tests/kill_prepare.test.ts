// A few of the kills that `npx tsx tests/kill_prepare.ts --kills=100` makes.

import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";

import { killPrepare } from "./kill_prepare.ts";
import { temporaryFolder } from "./scripts.ts";

test("4 kills of scripts that replace a dataset leave a whole one each time", async () => {
  const { kills, strays } = await killPrepare(join(temporaryFolder(), "kills"), 4, 3);
  assert.equal(kills, 4);
  assert.ok(strays > 0, "no kill fell into the work");
});
