import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import { decodeText, readInput, sha256 } from "../../data/text.ts";
import { temporaryFolder, userError } from "./support.ts";

test("a byte order mark goes, line ends and every other character stay", () => {
  assert.equal(decodeText(Buffer.from("\uFEFFa\r\nb\u{1F642}\uFFFD\uFEFF"), "x"), "a\r\nb\u{1F642}\uFFFD\uFEFF");
});

test("bad bytes are refused with the place where they begin", () => {
  const cases: [number[], number][] = [
    [[0x61, 0xff, 0x62], 1], // never a UTF-8 byte
    [[0xc3, 0xa9, 0xe2, 0x82, 0x41], 2], // three bytes announced, two came
    [[0x61, 0x62, 0xf0, 0x9f], 2], // the end in the middle of a character
    [[0xef, 0xbf, 0xbd, 0xef, 0x41], 3], // a replacement character that was written is none of ours
    [[0xef, 0xbb, 0xbf, 0x80], 3], // behind a byte order mark
    [[0xed, 0xa0, 0x80], 0], // half a surrogate pair
  ];
  for (const [bytes, offset] of cases) {
    const expected = userError(/^x\.txt is not UTF-8/, new RegExp(`offset ${offset};`));
    assert.throws(() => decodeText(Uint8Array.from(bytes), "x.txt"), expected);
  }
});

test("a missing input and a directory are one line each", (t) => {
  const folder = temporaryFolder(t);
  assert.throws(() => readInput(join(folder, "no.txt")), userError(/no file .*no\.txt/));
  assert.throws(() => readInput(folder), userError(/is a folder, not a file/));
  writeFileSync(join(folder, "a.txt"), "abc");
  assert.throws(() => readInput(join(folder, "a.txt", "b")), userError(/cannot read|no file/));
  assert.equal(sha256(readInput(join(folder, "a.txt"))).slice(0, 8), "ba7816bf");
});
