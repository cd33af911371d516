import assert from "node:assert/strict";
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";

import { listFiles, type Piece, piecesOf, readPiece } from "../../data/documents.ts";
import { GPT2_META } from "../../data/meta.ts";
import { createTokenizer } from "../../data/tokenizer.ts";
import { randomNumbers, randomText, temporaryFolder, userError } from "./support.ts";

const FIXTURES = fileURLToPath(new URL("../fixtures/", import.meta.url));
const fixture = (name: string) => join(FIXTURES, name);

async function allPieces(path: string, start = 0, size?: number): Promise<Piece[]> {
  const pieces: Piece[] = [];
  for (const file of listFiles([path])) for await (const piece of piecesOf(file, start, size)) pieces.push(piece);
  return pieces;
}

async function textsOf(pieces: Piece[]): Promise<string[]> {
  const texts: string[] = [];
  for (const piece of pieces) for await (const text of readPiece(piece)) texts.push(text);
  return texts;
}

const documentsOf = async (path: string, start?: number, size?: number) => textsOf(await allPieces(path, start, size));

/** They follow one another from the start to the end; all but the last have at least the size asked for. */
function assertPartition(pieces: Piece[], end: number, size: number): void {
  let at = 0;
  for (const [i, piece] of pieces.entries()) {
    assert.equal(piece.start, at);
    assert.ok(piece.end - piece.start >= size || i === pieces.length - 1);
    at = piece.end;
  }
  assert.equal(at, end);
}

test("a .txt file's pieces have the tokens of the whole, wherever they end", async (t) => {
  const path = join(temporaryFolder(t), "a.txt");
  const { encode } = await createTokenizer(GPT2_META);
  const random = randomNumbers(9);
  const pick = (from: readonly string[]) => from[Math.floor(random() * from.length)]!;
  // white space of every kind next to everything that it could be joined with
  const spaces = [" ", "  ", "\n", "\n\n", " \n ", "\r\n", "\t", "\u00A0", "\u3000", " \u2028", "\u0085\n", "\v\f "];
  const others = ["a", "it's", "'", "'s", "12", "\u4e16", "\u{1F642}", "!?", "\u00e9", "\uFEFF", "<|endoftext|>"];
  let cuts = 0;
  for (let round = 0; round < 40; round++) {
    const parts = Array.from({ length: 200 }, () => pick(random() < 0.6 ? spaces : others));
    const text = `x${parts.join("")}${round % 2 === 0 ? randomText(random, 300) : ""}`;
    writeFileSync(path, text);
    for (const size of [1, 2, 7, 50]) {
      const pieces = await allPieces(path, 0, size);
      assertPartition(pieces, Buffer.byteLength(text), size);
      assert.deepEqual(
        pieces.map(({ endsDocument }) => endsDocument),
        pieces.map((_, i) => i === pieces.length - 1),
      );
      const texts = await textsOf(pieces);
      assert.equal(texts.join(""), text);
      assert.deepEqual(
        texts.flatMap((part) => encode(part)),
        encode(text),
        JSON.stringify(text),
      );
      cuts += pieces.length - 1;
    }
  }
  assert.ok(cuts > 4000, `${cuts} cuts`);
});

test("a .txt file is one document, without its byte order mark, even where it is empty or has no white space", async (t) => {
  const path = join(temporaryFolder(t), "a.txt");
  const without = "\u4e16".repeat(100_000); // and longer than the window in which a cut is looked for
  for (const text of ["", "a", " ", without]) {
    writeFileSync(path, `\uFEFF${text}`);
    assert.deepEqual(await documentsOf(path, 0, 10), [text]);
  }
  writeFileSync(path, "");
  assert.deepEqual(await documentsOf(path), [""]);
  writeFileSync(path, `${without}\n${without} b`);
  assert.deepEqual(await documentsOf(path, 0, 10), [without, `\n${without}`, " b"]);
});

test("a .jsonl file's pieces are whole lines, and reading can start at any of them", async (t) => {
  const path = join(temporaryFolder(t), "a.jsonl");
  const random = randomNumbers(10);
  const texts = Array.from({ length: 100 }, () => randomText(random, Math.floor(random() * 50)));
  texts[50] = "long ".repeat(50_000);
  const lines = texts.map((text, i) => `${JSON.stringify({ text, i })}${i % 10 === 0 ? "\r\n\n  \n" : "\n"}`);
  for (const end of ["", '{"text": "no newline behind it"}']) {
    writeFileSync(path, lines.join("") + end);
    const expected = end === "" ? texts : [...texts, "no newline behind it"];
    for (const size of [1, 100, 1 << 20]) {
      const pieces = await allPieces(path, 0, size);
      assertPartition(pieces, Buffer.byteLength(lines.join("") + end), size);
      assert.deepEqual(await textsOf(pieces), expected);
      const middle = pieces.length >> 1;
      assert.deepEqual(await documentsOf(path, pieces[middle]!.start, size), await textsOf(pieces.slice(middle)));
    }
  }
});

test("the same documents out of .jsonl and out of .parquet as pyarrow writes it, however compressed", async () => {
  const lines = readFileSync(fixture("documents.jsonl"), "utf8").trimEnd().split("\n");
  const expected = lines.map((line): string => JSON.parse(line).text);
  assert.equal(expected.length, 40);
  assert.deepEqual(await documentsOf(fixture("documents.jsonl")), expected);
  for (const codec of ["zstd", "snappy", "gzip", "none"]) {
    const path = fixture(`documents_${codec}.parquet`);
    const pieces = await allPieces(path);
    assert.deepEqual(
      pieces.map(({ start, end }) => [start, end]),
      [
        [0, 16],
        [16, 32],
        [32, 40],
      ],
    ); // its row groups
    assert.equal(pieces.at(-1)?.bytes, readFileSync(path).length);
    assert.deepEqual(await textsOf(pieces), expected, codec);
    assert.deepEqual(await documentsOf(path, 16), expected.slice(16), codec);
  }
});

test("folders are opened, below them too, and give their files by name", async (t) => {
  const folder = temporaryFolder(t);
  mkdirSync(join(folder, "b.txt")); // a folder, whatever its name
  for (const name of ["c.txt", "a.JSONL", "b.txt/z.txt", "notes.md", "b.parquet.part"]) {
    writeFileSync(join(folder, name), name.endsWith("JSONL") ? '{"text": "j"}' : name);
  }
  assert.deepEqual(await documentsOf(folder), ["j", "b.txt/z.txt", "c.txt"]);
  const twice = listFiles([join(folder, "c.txt"), folder]).map(({ path }) => path);
  assert.deepEqual(
    twice,
    ["c.txt", "a.JSONL", "b.txt/z.txt", "c.txt"].map((name) => join(folder, name)),
  );
});

test("bad input is one line that names the file and the place", async (t) => {
  const folder = temporaryFolder(t);
  const write = (name: string, content: string | Uint8Array) => {
    writeFileSync(join(folder, name), content);
    return join(folder, name);
  };
  const good = '{"text": "a"}\n'.repeat(7);
  const cases: [string, RegExp][] = [
    [join(folder, "missing.txt"), /^no file or folder .*missing\.txt; --input takes/],
    [write("a.csv", "x"), /a\.csv is none of \.txt, \.jsonl, \.parquet/],
    [write("cut.jsonl", `${good}\n{"text": "b`), /cut\.jsonl, line 9 is not JSON/],
    [write("other.jsonl", `${good}{"body": "b"}`), /other\.jsonl, line 8 has no field "text"/],
    [write("number.jsonl", `${good}{"text": 3}\n${good}`), /number\.jsonl, line 8 has no field "text"/],
    [write("null.jsonl", "null"), /null\.jsonl, line 1 has no field "text"/],
    [write("latin.txt", Buffer.concat([Buffer.from("a ".repeat(20)), Buffer.from([0xe9, 0x20])])), /offset 40;/],
    [write("text.parquet", "no parquet at all, but long enough"), /text\.parquet can't be read as parquet: /],
    [write("empty.parquet", ""), /empty\.parquet can't be read as parquet: /],
    [fixture("documents_without_text.parquet"), /has no column "text" of texts; its columns: body$/],
    [fixture("documents_null.parquet"), /documents_null\.parquet, row 2 has no text/],
  ];
  for (const [path, pattern] of cases) await assert.rejects(documentsOf(path, 0, 9), userError(pattern));
  mkdirSync(join(folder, "nothing"));
  assert.throws(
    () => listFiles([join(folder, "nothing")]),
    userError(/no \.txt, \.jsonl, \.parquet file in the folder/),
  );

  const path = write("shrinks.jsonl", good);
  const pieces = await allPieces(path, 0, 30);
  truncateSync(path, 40);
  await assert.rejects(textsOf(pieces), userError(/shrinks\.jsonl became shorter/));

  const broken = readFileSync(fixture("documents_zstd.parquet"));
  broken.fill(0x55, 100, 400); // the first row group, but not the footer
  await assert.rejects(documentsOf(write("broken.parquet", broken)), userError(/broken\.parquet can't be read/));
});
