// lib/common/read_file.ts: what lies where a file should be is one line, at once.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { UserError } from "../../../lib/common/errors.ts";
import { jsonIf, openFile, parseJson, readBytes, readText, statOf } from "../../../lib/common/read_file.ts";
import { z } from "../../../lib/common/zod.ts";
import { temporaryFolder } from "../../scripts.ts";
import { userError } from "../text/support.ts";

const FOLDER = temporaryFolder();
const UNIX = { skip: process.platform === "win32" && "Windows has no pipes in folders, and no /dev" };

test("a file is read whole, and there is nothing where there is none", () => {
  const path = join(FOLDER, "text");
  writeFileSync(path, "naïve 🙂\n");
  assert.equal(readText(path), "naïve 🙂\n");
  writeFileSync(path, "");
  assert.equal(readText(path), "");
  assert.equal(readText(join(FOLDER, "none")), undefined);
  assert.equal(readText(join(path, "below a file")), undefined);
});

test("a file of the system that says it has no bytes is read all the same", UNIX, (t) => {
  if (process.platform !== "linux") return t.skip("no /proc");
  assert.equal(readText("/proc/version"), readFileSync("/proc/version", "utf8"));
});

test("a pipe in a file's place is refused and not waited for", UNIX, () => {
  const path = join(FOLDER, "pipe");
  execFileSync("mkfifo", [path]);
  assert.throws(() => readText(path), userError(/pipe is a pipe, not a file$/));
});

test("a folder, a device, links in a circle and a NUL in a path are one line each", UNIX, () => {
  mkdirSync(join(FOLDER, "folder"));
  assert.throws(() => readText(join(FOLDER, "folder")), userError(/folder is a folder, not a file$/));
  assert.throws(() => readText("/dev/zero"), userError(/\/dev\/zero is a device, not a file$/));
  symlinkSync(join(FOLDER, "circle"), join(FOLDER, "circle"));
  assert.throws(() => readText(join(FOLDER, "circle")), userError(/^can't read .*circle: ELOOP/));
  assert.throws(() => openFile("a\0b"), userError(/^a\\u\{0\}b is no path: it holds the character NUL$/));
});

test("what a path is, where the system doesn't say, is one line", UNIX, () => {
  assert.equal(statOf(join(FOLDER, "none")), undefined);
  assert.equal(statOf(FOLDER)?.isDirectory(), true);
  symlinkSync(join(FOLDER, "round"), join(FOLDER, "round"));
  assert.throws(() => statOf(join(FOLDER, "round")), userError(/^can't read .*round: ELOOP/));
  assert.throws(() => statOf("x".repeat(5000)), userError(/^can't read x+\.\.\.: ENAMETOOLONG/));
  assert.throws(() => statOf("a\0b"), userError(/holds the character NUL$/));
});

test("a file that is too large is refused before it is read", () => {
  const path = join(FOLDER, "large");
  writeFileSync(path, "x".repeat(1001));
  assert.equal(readBytes(path, { most: 1001 })?.length, 1001);
  assert.throws(() => readBytes(path, { most: 1000 }), userError(/large has 1 MB; more than 1 MB can't be read here$/));
});

test("JSON that isn't what it should be is one short line, whatever is in it", () => {
  const schema = z.object({ n_layer: z.int(), name: z.string() });
  const read = (text: string) => parseJson(text, schema, (why) => new UserError(`file: ${why}`));
  assert.deepEqual(read('{"n_layer": 2, "name": "a"}'), { n_layer: 2, name: "a" });
  assert.throws(() => read('{"n_layer": x,\n"name": "\u001b[2J"}'), userError(/^file: it is not JSON: .*'x'/));
  assert.throws(() => read(""), userError(/^file: it is not JSON/));
  assert.throws(() => read("null"), userError(/^file: Invalid input: expected object/));
  assert.throws(() => read('{"n_layer": 1e99, "name": "a"}'), userError(/^file: n_layer: /));
  assert.throws(() => read(`{"n_layer": 1, "name": ${"[".repeat(1e5)}${"]".repeat(1e5)}}`), userError(/^file: name: /));
  assert.deepEqual(jsonIf('{"n_layer": 2, "name": "a"}', schema), { n_layer: 2, name: "a" });
  for (const text of ["", "{", "null", '{"n_layer": 2}']) assert.equal(jsonIf(text, schema), undefined);
});
