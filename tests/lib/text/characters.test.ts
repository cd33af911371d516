import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";

import { prepareCharacters } from "../../../lib/text/characters.ts";
import { readMeta } from "../../../lib/text/meta.ts";
import { decodeText, sha256 } from "../../../lib/text/text.ts";
import { TINY_SHAKESPEARE } from "../../../lib/text/tiny_shakespeare.ts";
import { describe } from "../../../lib/text/write_dataset.ts";
import { randomNumbers, randomText, temporaryFolder, userError } from "./support.ts";

const source = { name: "a test", sha256: sha256(Buffer.from("")) };

test("every byte of a small dataset", (t) => {
  const directory = join(temporaryFolder(t), "new", "folder");
  const text = "b\u{1F642}a_\r\nb0 \uFFFDzbbbaa\u{1F642}\u{1F642}_"; // 19 code points
  const meta = prepareCharacters({ text, source, directory });
  // as Python sorts: by code point, so U+FFFD stands before the emoji, though its UTF-16 unit is the larger one
  assert.deepEqual(meta.itos, ["\n", "\r", " ", "0", "_", "a", "b", "z", "\uFFFD", "\u{1F642}"]);
  const bytes = (tokens: number[]) => Buffer.from(tokens.flatMap((token) => [token, 0]));
  assert.deepEqual(
    readFileSync(join(directory, "train.bin")),
    bytes([6, 9, 5, 4, 1, 0, 6, 3, 2, 8, 7, 6, 6, 6, 5, 5, 9]),
  );
  assert.deepEqual(readFileSync(join(directory, "val.bin")), bytes([9, 4]));
  assert.deepEqual(readdirSync(directory).sort(), ["meta.json", "train.bin", "val.bin"]);
  assert.deepEqual(readMeta(directory), meta);
  assert.deepEqual([meta.vocab_size, meta.train_tokens, meta.val_tokens, meta.source.characters], [10, 17, 2, 19]);
});

test("tokens above 255 are little-endian", (t) => {
  const directory = temporaryFolder(t);
  const text = Array.from({ length: 300 }, (_, i) => String.fromCodePoint(0x4e00 + i)).join("");
  prepareCharacters({ text: `${text}${text}`, source, directory });
  const train = readFileSync(join(directory, "train.bin"));
  assert.deepEqual([...train.subarray(2 * 258, 2 * 258 + 4)], [2, 1, 3, 1]); // 258 = 0x0102, 259 = 0x0103
});

test("a random text comes back from its files", (t) => {
  const directory = temporaryFolder(t);
  const text = randomText(randomNumbers(1), 5000);
  const { itos } = prepareCharacters({ text, source, directory });
  const bytes = Buffer.concat([readFileSync(join(directory, "train.bin")), readFileSync(join(directory, "val.bin"))]);
  let back = "";
  for (let i = 0; i < bytes.length; i += 2) back += itos[bytes.readUInt16LE(i)];
  assert.equal(back, text);
});

test("tinyshakespeare has the counts that everybody knows", (t) => {
  const path = fileURLToPath(new URL("../../../../shared/data/tinyshakespeare.txt", import.meta.url));
  if (!existsSync(path)) return t.skip("the text is not on this machine; the tests above use made-up ones");
  const bytes = readFileSync(path);
  assert.equal(sha256(bytes), TINY_SHAKESPEARE.sha256);
  assert.equal(bytes.length, TINY_SHAKESPEARE.bytes);
  const text = decodeText(bytes, path);
  const meta = prepareCharacters({ text, source, directory: temporaryFolder(t) });
  assert.equal(meta.itos.join(""), "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");
  assert.match(
    describe(meta),
    /1,115,394 characters[\s\S]*vocab_size: 65\n[\s\S]*1,003,854 tokens\n[\s\S]*111,540 tokens$/,
  );
});

test("65,536 characters fit, one more does not", (t) => {
  const all = Array.from({ length: 65_537 }, (_, i) => String.fromCodePoint(0x10000 + i));
  const folder = temporaryFolder(t);
  const directory = join(folder, "out");
  assert.throws(() => prepareCharacters({ text: all.join(""), source, directory }), userError(/65537 .*65,536/));
  assert.ok(!existsSync(directory));
  const meta = prepareCharacters({ text: all.slice(1).join(""), source, directory });
  assert.equal(meta.vocab_size, 65_536);
  assert.equal(readFileSync(join(directory, "val.bin")).at(-1), 255);
});

test("a text too short to split is refused and nothing is written", (t) => {
  const directory = join(temporaryFolder(t), "out");
  for (const text of ["", "a", "0123456789"]) {
    const expected = userError(/^a test has \d+ characters/);
    assert.throws(() => prepareCharacters({ text, source, directory }), expected);
  }
  assert.ok(!existsSync(directory));
  assert.equal(prepareCharacters({ text: "0123456789a", source, directory }).val_tokens, 2);
});

test("a place that can't be written is one line", (t) => {
  const file = join(temporaryFolder(t), "file");
  writeFileSync(file, "");
  assert.throws(
    () => prepareCharacters({ text: "0123456789a", source, directory: file }),
    userError(/can.t make or write the folder/),
  );
});
