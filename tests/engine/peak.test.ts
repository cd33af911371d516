// The measured peak is a rate that some processor could have.

import assert from "node:assert/strict";
import test from "node:test";

import { measurePeak } from "../../engine/peak.ts";
import { compiled, eager } from "../support.ts";

test("the peak is finite, above a MFLOP/s and below 100 TFLOP/s; the compiled one is not below the plain one", async () => {
  const [fast, plain] = [await measurePeak(compiled), await measurePeak(eager)];
  for (const peak of [fast, plain]) assert.ok(peak > 1e6 && peak < 1e14, `${peak}`);
  // libtensorflow's products are as fast as ours; a busy machine halves either
  assert.ok(fast > plain / 4, `compiled ${fast}, plain ${plain}`);
});
