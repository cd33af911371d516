import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";

import { prepareBytePairs } from "../../data/byte_pairs.ts";
import { readMeta } from "../../data/meta.ts";
import { decodeText, sha256 } from "../../data/text.ts";
import { TINY_SHAKESPEARE } from "../../data/tiny_shakespeare.ts";
import { describe } from "../../data/write_dataset.ts";
import { temporaryFolder, userError } from "./support.ts";

const source = { name: "a test", sha256: sha256(Buffer.from("")) };

function tokensOf(path: string): number[] {
  const bytes = readFileSync(path);
  return Array.from({ length: bytes.length / 2 }, (_, i) => bytes.readUInt16LE(2 * i));
}

test("every token of a small dataset: split between characters, each part encoded on its own", async (t) => {
  const directory = join(temporaryFolder(t), "new");
  const text = "Hello world \u{1F642} Hello world, hello w!"; // 35 characters: 31 and "o w!"
  const meta = await prepareBytePairs({ text, source, directory });
  // from tiktoken 0.14, encode_ordinary of both parts
  assert.deepEqual(tokensOf(join(directory, "train.bin")), [15496, 995, 32485, 18435, 995, 11, 5968]);
  assert.deepEqual(tokensOf(join(directory, "val.bin")), [78, 266, 0]);
  assert.deepEqual(readdirSync(directory).sort(), ["meta.json", "train.bin", "val.bin"]);
  assert.deepEqual(readMeta(directory), meta);
  const { kind, vocab_size, train_tokens, val_tokens } = meta;
  assert.deepEqual([kind, vocab_size, train_tokens, val_tokens, meta.source.characters], ["gpt2", 50257, 7, 3, 35]);
});

test("a text that is too short is one line, and nothing is written", async (t) => {
  const directory = join(temporaryFolder(t), "new");
  for (const text of ["", "a", "a b c d"]) {
    await assert.rejects(prepareBytePairs({ text, source, directory }), userError(/a test has \d characters, too few/));
  }
  assert.ok(!existsSync(directory));
});

test("tinyshakespeare has nanoGPT's numbers of tokens", async (t) => {
  const folders = ["shakespeare", "shakespeare_char"].map((name) => new URL(`../../data/${name}/`, import.meta.url));
  const path = folders.map((folder) => fileURLToPath(new URL("input.txt", folder))).find((file) => existsSync(file));
  const bytes = path === undefined ? Buffer.from("") : readFileSync(path);
  if (sha256(bytes) !== TINY_SHAKESPEARE.sha256) return t.skip("the text is not here; prepare.ts downloads it");
  const text = decodeText(bytes, "input.txt");
  const meta = await prepareBytePairs({ text, source, directory: temporaryFolder(t) });
  assert.deepEqual([meta.train_tokens, meta.val_tokens], [301_966, 36_059]);
  assert.match(
    describe(meta),
    /1,115,394 characters\nvocab_size: 50,257\ntrain\.bin: {2}301,966 tokens\nval\.bin: {4}36,059/,
  );
});
