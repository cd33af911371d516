// Escape sequences in settings.

import assert from "node:assert/strict";
import { test } from "node:test";

import { UserError } from "../../../lib/common/errors.ts";
import { unescapeText } from "../../../lib/common/escapes.ts";

test("escapes", () => {
  assert.equal(unescapeText("a\\nb\\t\\r\\\\n", "stop"), "a\nb\t\r\\n");
  assert.equal(unescapeText("\\u0020\\u002c", "stop"), " ,");
  assert.equal(unescapeText("plain", "stop"), "plain");
  for (const bad of ["\\x", "\\", "\\u12", "\\N", "a\\"]) {
    assert.throws(
      () => unescapeText(bad, "stop"),
      (error) => error instanceof UserError && /it knows \\n/.test(error.message),
      bad,
    );
  }
});
