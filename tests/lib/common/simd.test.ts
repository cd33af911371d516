// The loop in WebAssembly is what its text says. Against its plain twin: rng.test.ts.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { assemble } from "../../../tools/wat.ts";

test("kernels.wasm is kernels.wat", async () => {
  const file = (extension: string) =>
    readFileSync(new URL(`../../../lib/common/kernels.${extension}`, import.meta.url));
  assert.deepEqual(Buffer.from(await assemble(file("wat").toString())), file("wasm"), "run: npm run kernels");
});
