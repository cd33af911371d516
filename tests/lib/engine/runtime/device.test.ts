// What the machine is taken for.

import assert from "node:assert/strict";
import test from "node:test";

import { tf } from "../../../../lib/common/tf.ts";

import { useEagerBackend } from "../../../../lib/engine/runtime/device.ts";

test("the eager backend says in one line which it is, and computes", async () => {
  const line = await useEagerBackend();
  assert.match(line, /^eager \(.+\)$/);
  assert.ok(["cpu", "tensorflow"].includes(tf.getBackend()));
  assert.deepEqual([...tf.tidy(() => tf.add(1, 2).dataSync())], [3]);
});
