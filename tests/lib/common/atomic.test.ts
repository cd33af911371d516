// lib/common/atomic.ts: a file is whole or not there, whatever goes wrong meanwhile.

import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { writeFileAtomic } from "../../../lib/common/atomic.ts";
import { hasCode } from "../../../lib/common/errors.ts";
import { temporaryFolder } from "../../scripts.ts";

test("chunks of text and bytes come one after the other, and nothing else is left", () => {
  const folder = temporaryFolder();
  const path = join(folder, "file");
  writeFileAtomic(path, "naïve ", Uint8Array.of(1, 2), "", new Uint8Array(Uint8Array.of(9, 3, 9).buffer, 1, 1));
  assert.deepEqual(readFileSync(path), Buffer.from("naïve \x01\x02\x03"));
  assert.deepEqual(readdirSync(folder), ["file"]);
});

test("no chunks make an empty file", () => {
  const path = join(temporaryFolder(), "file");
  writeFileAtomic(path);
  assert.equal(readFileSync(path).length, 0);
});

test("the new file replaces the old one whole, though it is shorter", () => {
  const path = join(temporaryFolder(), "file");
  writeFileAtomic(path, "a long first text");
  writeFileAtomic(path, "short");
  assert.equal(readFileSync(path, "utf8"), "short");
});

test("a write that fails leaves the old file and no temporary one", () => {
  const folder = temporaryFolder();
  writeFileAtomic(join(folder, "file"), "old");

  // 1) the file can't be made: there is no such folder
  assert.throws(
    () => writeFileAtomic(join(folder, "none", "file"), "new"),
    (error) => hasCode(error, "ENOENT"),
  );
  // 2) the file can't be put in its place: a folder is there
  mkdirSync(join(folder, "taken"));
  assert.throws(
    () => writeFileAtomic(join(folder, "taken"), "new"),
    (error) => hasCode(error, "EISDIR"),
  );
  // 3) a later chunk is none: the first was written by then
  const chunks = ["new", undefined] as unknown as string[];
  assert.throws(() => writeFileAtomic(join(folder, "file"), ...chunks), TypeError);

  assert.equal(readFileSync(join(folder, "file"), "utf8"), "old");
  assert.deepEqual(readdirSync(folder).sort(), ["file", "taken"]);
});

test("a full disk leaves the old file and no temporary one", {
  skip: !existsSync("/dev/full") && "this system has no /dev/full",
}, () => {
  const folder = temporaryFolder();
  const path = join(folder, "file");
  writeFileSync(path, "old");
  symlinkSync("/dev/full", `${path}.${process.pid}.tmp`); // where the new file is written
  assert.throws(
    () => writeFileAtomic(path, "new"),
    (error) => hasCode(error, "ENOSPC"),
  );
  assert.equal(readFileSync(path, "utf8"), "old");
  assert.deepEqual(readdirSync(folder), ["file"]);
});
