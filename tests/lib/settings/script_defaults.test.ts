// The defaults that are read as text are those that the scripts themselves have.

import assert from "node:assert/strict";
import { test } from "node:test";

import { scriptDefaults, trainDefaults } from "../../../lib/settings/script_defaults.ts";
import { succeed } from "../../scripts.ts";

for (const script of ["train.ts", "bench.ts"]) {
  test(`${script}: every key and default that --help=all shows`, async () => {
    const help = await succeed(script, ["--help=all"]);
    const shown = Object.fromEntries([...help.matchAll(/^ {2}--(\w+)=(\S*)/gm)].map(([, key, value]) => [key, value]));
    const defaults = scriptDefaults(script);
    assert.ok(Object.keys(defaults).length > 20);
    assert.deepEqual(Object.keys(shown), Object.keys(defaults));
    for (const [key, value] of Object.entries(defaults)) {
      const text = Array.isArray(value)
        ? `[${value.join(", ")}]`
        : typeof value === "string"
          ? JSON.stringify(value)
          : String(value);
      assert.equal(shown[key], text.split(" ")[0], key);
    }
  });
}

test("expressions are worked out, and types are no part of a value", () => {
  const { gradient_accumulation_steps, callbacks, optimizer, rope_theta } = trainDefaults();
  assert.deepEqual([gradient_accumulation_steps, callbacks, optimizer, rope_theta], [40, [], "adamw", 10_000]);
});
