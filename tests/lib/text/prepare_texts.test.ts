import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";

import { prepareCharacters } from "../../../lib/text/characters.ts";
import { READING } from "../../../lib/text/documents.ts";
import { listFiles } from "../../../lib/text/input_files.ts";
import { readMeta } from "../../../lib/text/meta.ts";
import { textsOf } from "../../../lib/text/own_texts.ts";
import { onlyText, prepareTexts } from "../../../lib/text/prepare_texts.ts";
import { decodeText, sha256 } from "../../../lib/text/text.ts";
import { TINY_SHAKESPEARE } from "../../../lib/text/tiny_shakespeare.ts";
import { createTokenizer } from "../../../lib/text/tokenizer.ts";
import { describe } from "../../../lib/text/write_dataset.ts";
import { randomNumbers, temporaryFolder, userError } from "./support.ts";

const source = { name: "a test", sha256: sha256(Buffer.from("")) };

function tokensOf(path: string): number[] {
  const bytes = readFileSync(path);
  return Array.from({ length: bytes.length / 2 }, (_, i) => bytes.readUInt16LE(2 * i));
}

test("every token of a small dataset: split between characters, each part encoded on its own", async (t) => {
  const directory = join(temporaryFolder(t), "new");
  const text = "Hello world \u{1F642} Hello world, hello w!"; // 35 characters: 31 and "o w!"
  const meta = await prepareTexts(onlyText({ text, source }), "gpt2", directory);
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
    await assert.rejects(
      prepareTexts(onlyText({ text, source }), "gpt2", directory),
      userError(/a test has \d characters/),
    );
  }
  assert.ok(!existsSync(directory));
});

test("tinyshakespeare has nanoGPT's numbers of tokens", async (t) => {
  const folders = ["shakespeare", "shakespeare_char"].map((name) => new URL(`../../../data/${name}/`, import.meta.url));
  const path = folders.map((folder) => fileURLToPath(new URL("input.txt", folder))).find((file) => existsSync(file));
  const bytes = path === undefined ? Buffer.from("") : readFileSync(path);
  if (sha256(bytes) !== TINY_SHAKESPEARE.sha256) return t.skip("the text is not here; prepare.ts downloads it");
  const text = decodeText(bytes, "input.txt");
  const meta = await prepareTexts(onlyText({ text, source }), "gpt2", temporaryFolder(t));
  assert.deepEqual([meta.train_tokens, meta.val_tokens], [301_966, 36_059]);
  assert.match(
    describe(meta),
    /1,115,394 characters\nvocab_size: 50,257\ntrain\.bin: {2}301,966 tokens\nval\.bin: {4}36,059/,
  );
});

/** All tokens of a dataset, train.bin's first. */
const allTokens = (directory: string) => ["train.bin", "val.bin"].flatMap((name) => tokensOf(join(directory, name)));

test("documents of several kinds of files, with what stands between them in either tokenizer", async (t) => {
  const parent = temporaryFolder(t);
  const folder = join(parent, "input");
  mkdirSync(folder);
  const files = {
    "a.txt": "one two<|endoftext|>three\r\nfour",
    "b.jsonl": '{"body": "five"}\n{"body": null}\n{"body": "six \u{1F642}"}\n',
    "c.csv": 'id,body\n1,"seven, eight"\n',
    "d.md": "# nine and all that comes after it",
  };
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
  writeFileSync(join(folder, "e.png"), "");
  const documents = [
    "one two",
    "three\nfour",
    "five",
    "six \u{1F642}",
    "seven, eight",
    "# nine and all that comes after it",
  ];
  const reading = { field: "body", separator: "<|endoftext|>", skip_bad: true, keep_crlf: false };
  for (const kind of ["char", "gpt2"] as const) {
    const said: string[] = [];
    const log = (line: string) => said.push(line);
    const texts = textsOf(listFiles([folder], log), reading, TINY_SHAKESPEARE, log);
    const directory = join(parent, kind);
    const meta = await prepareTexts(texts, kind, directory);
    const { encode, decode } = await createTokenizer(meta);
    const all = allTokens(directory);
    assert.equal(meta.source.name, "4 files");
    assert.equal(meta.train_tokens + meta.val_tokens, all.length);
    if (kind === "char") assert.equal(decode(all), documents.join("\n\n"));
    else {
      // the last tenth of the characters is encoded on its own, and is within the last document
      const total = meta.source.characters;
      const end = documents.at(-1)!;
      const split = end.length - (total - Math.floor(0.9 * total));
      const parts = documents.slice(0, -1).map((text) => encode(text));
      const cut = [...parts, [...encode(end.slice(0, split)), ...encode(end.slice(split))]];
      assert.deepEqual(
        all,
        cut.flatMap((tokens, i) => (i > 0 ? [50_256, ...tokens] : tokens)),
      );
    }
    assert.match(said[0]!, /: 4 files; 1 others are left out/);
    assert.match(said[1]!, /^4 files: 1 line ends .* became/);
    assert.match(
      said[2]!,
      /^4 files: 1 rows without a text are left out; the first: .*b\.jsonl, line 2 has no text in its field "body"/,
    );
    assert.equal(said.length, 3);
  }
});

test("<|endoftext|> in a text is said to be read as text", async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, "eot.txt"), "a story<|endoftext|>another one<|endoftext|>");
  const said: string[] = [];
  const texts = textsOf(listFiles([join(folder, "eot.txt")]), READING, TINY_SHAKESPEARE, (line) => said.push(line));
  const { source } = await prepareTexts(texts, "char", join(folder, "out"));
  assert.equal(source.characters, 44);
  assert.match(
    said.join("|"),
    /^eot\.txt: <\|endoftext\|> occurs in the text 2 times, .*; --separator="<\|endoftext\|>" makes/,
  );
});

test("the parts that a long text is read in change nothing", async (t) => {
  const folder = temporaryFolder(t);
  const random = randomNumbers(16);
  const words = "The quick brown fox, \u4e16\u754c, na\u00efve; jumps over the lazy dogs again and again. ".repeat(3);
  const lines = Array.from({ length: 9000 }, () => `${words.slice(random() * 40)} \u{1F642}\n`);
  const text = lines.join(""); // some megabytes: several pieces
  writeFileSync(join(folder, "long.txt"), text);
  prepareCharacters({ text, source, directory: join(folder, "whole") });
  const texts = textsOf(listFiles([join(folder, "long.txt")]), READING, TINY_SHAKESPEARE, assert.fail);
  const meta = await prepareTexts(texts, "char", join(folder, "parts"));
  assert.equal(meta.source.sha256, sha256(Buffer.from(text)));
  for (const name of ["train.bin", "val.bin"]) {
    assert.ok(readFileSync(join(folder, "whole", name)).equals(readFileSync(join(folder, "parts", name))), name);
  }
});
