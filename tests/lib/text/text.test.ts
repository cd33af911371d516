import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import { decodeText, readInput, readText, sha256, unixLineEnds } from "../../../lib/text/text.ts";
import { temporaryFolder, userError } from "./support.ts";

test("a byte order mark goes, every other character stays", () => {
  assert.equal(decodeText(Buffer.from("\uFEFFa\r\nb\u{1F642}\uFFFD\uFEFF"), "x"), "a\r\nb\u{1F642}\uFFFD\uFEFF");
});

test("UTF-16 is read by its byte order mark, and what is no text is refused", () => {
  const text = "a\r\n\u4e16\u{1F642}";
  const little = Buffer.from(`\uFEFF${text}`, "utf16le");
  assert.equal(decodeText(little, "x"), text);
  assert.equal(decodeText(Buffer.from(little).swap16(), "x"), text);
  assert.throws(
    () => decodeText(little.subarray(0, little.length - 2), "x.txt"),
    userError(/^x\.txt begins as UTF-16/),
  );
  assert.throws(() => decodeText(little.subarray(2), "x.txt"), userError(/bad byte at offset 9;/));
  assert.throws(() => decodeText(Buffer.from("\u00e9\0"), "x.txt", 40), userError(/zero byte at offset 42;/));
});

test("line ends of Windows and of old Macs become those of Unix, are counted, and can be kept", () => {
  assert.deepEqual(unixLineEnds("a\r\nb\rc\n\r\r\n\n"), { text: "a\nb\nc\n\n\n\n", replaced: 4 });
  assert.deepEqual(unixLineEnds("a\nb"), { text: "a\nb", replaced: 0 });
  const bytes = Buffer.from("\uFEFFThe river\r\n");
  const said: string[] = [];
  const read = (keep_crlf: boolean) => readText(bytes, "p.txt", { keep_crlf, log: (line) => said.push(line) });
  assert.equal(read(true), "The river\r\n");
  assert.deepEqual(said, []);
  assert.equal(read(false), "The river\n");
  assert.match(said.join("|"), /^p\.txt: 1 line ends \\r\\n or \\r became \\n, .*--keep_crlf=true keeps them$/);
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
  assert.throws(() => readInput(join(folder, "a.txt", "b")), userError(/no file .*a\.txt.b;/));
  assert.equal(sha256(readInput(join(folder, "a.txt"))).slice(0, 8), "ba7816bf");
});
