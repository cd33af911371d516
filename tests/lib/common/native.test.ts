// lib/common/native.ts: whoever calls the system first, ONNX Runtime is loaded after it all the same.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { exchange } from "../../../lib/common/exchange.ts";
import { ort } from "../../../lib/engine/runtime/c_api.ts";
import { temporaryFolder } from "../../scripts.ts";

test("folders change places, and then ONNX Runtime loads, in one process", () => {
  const folder = temporaryFolder();
  for (const name of ["a", "b"]) mkdirSync(join(folder, name));
  exchange(join(folder, "a"), join(folder, "b")); // false where the system can't: no matter here
  assert.match(ort().version, /^1\.\d+/);
});
