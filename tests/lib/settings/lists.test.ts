// lib/settings/lists.ts: items with commas in them.

import assert from "node:assert/strict";
import { test } from "node:test";

import { joinList, splitList } from "../../../lib/settings/lists.ts";

for (const [text, items] of [
  ["", []],
  ["a", ["a"]],
  ["a, b ,c", ["a", "b", "c"]],
  [",", ["", ""]],
  [String.raw`a\,b,c`, ["a,b", "c"]],
  [String.raw`\n\n,\\,\,`, [String.raw`\n\n`, "\\", ","]], // a pair before a comma is one backslash
  [String.raw`a\\\,b,\\c\\`, ["a\\,b", String.raw`\\c\\`]],
  ["C:\\runs\\a,x\\", ["C:\\runs\\a", "x\\"]],
] as [string, string[]][]) {
  test(`the items of ${JSON.stringify(text)}`, () => {
    assert.deepEqual(splitList(text), items);
    assert.deepEqual(splitList(joinList(items)), items);
  });
}
