// lib/common/printable.ts: text of others is shown, and neither obeyed by a terminal nor a place where passwords stay.

import assert from "node:assert/strict";
import { test } from "node:test";

import { printable, shownText, visible, withoutPasswords } from "../../../lib/common/printable.ts";

test("printable is one line, and not too long", () => {
  assert.equal(printable("a\nb\x1b[2J"), "a\\u{a}b\\u{1b}[2J");
  assert.equal(printable("x".repeat(300)), `${"x".repeat(200)}...`);
});

for (const [what, text, shown] of [
  ["lines and tabs stay", "a\tb\nc\n", "a\tb\nc\n"],
  ["text in any script stays, joiners too", "naïve 東京 می‌خواهم 👩‍👩‍👧 🙂", "naïve 東京 می‌خواهم 👩‍👩‍👧 🙂"],
  ["escape sequences", "\x1b[2J\x1b]0;title\x07", "\\u001b[2J\\u001b]0;title\\u0007"],
  ["those of one character, and DEL", "\x9b2J\x7f\0", "\\u009b2J\\u007f\\u0000"],
  ["Windows line ends, also at the end of a part", "a\r\nb\r", "a\nb"],
  ["what goes back to the line's start", "safe\revil", "safe\\u000devil"],
  ["text that turns around", "a\u202eb\u2066c", "a\\u202eb\\u2066c"],
] as const) {
  test(`visible: ${what}`, () => assert.equal(visible(text), shown));
}

test("JSON stays the same JSON", () => {
  const value = { name: "\x1b\x7f\x9b\u202e", n: 1 };
  assert.deepEqual(JSON.parse(shownText(JSON.stringify(value))), value);
});

for (const [text, shown] of [
  ["http://me:secret@host:5000/x", "http://me@host:5000/x"],
  ["at https://:tok@host, or ftp://a:b@c", "at https://@host, or ftp://a@c"],
  ["http://me:s3@c:r@host", "http://me@host"],
  ["http://me:p/w@host", "http://me@host"],
  ["--mlflow_uri='http://me:it'\\''s@host'", "--mlflow_uri='http://me@host'"],
  ['{"uri":"http://me:a\\"b@host","x":"@"}', '{"uri":"http://me@host","x":"@"}'],
  // no passwords
  ...["http://me@host", "http://host:5000/@scope/name", "http://127.0.0.1:5000", "a: b@c", "//x:y@z"].map(
    (same) => [same, same] as const,
  ),
] as const) {
  test(`without a password: ${text}`, () => assert.equal(withoutPasswords(text), shown));
}
