import assert from "node:assert/strict";
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";

import { noTally, type Piece, piecesOf, READING, type Reading, readPiece } from "../../../lib/text/documents.ts";
import { listFiles } from "../../../lib/text/input_files.ts";
import { GPT2_META } from "../../../lib/text/meta.ts";
import { createTokenizer } from "../../../lib/text/tokenizer.ts";
import { randomNumbers, randomText, temporaryFolder, userError } from "./support.ts";

const FIXTURES = fileURLToPath(new URL("../../fixtures/", import.meta.url));
const fixture = (name: string) => join(FIXTURES, name);

const KEEP = { ...READING, keep_crlf: true };

async function allPieces(path: string, start = 0, size?: number, reading: Reading = KEEP): Promise<Piece[]> {
  const pieces: Piece[] = [];
  for (const file of listFiles([path])) {
    for await (const piece of piecesOf(file, reading, start, size)) pieces.push(piece);
  }
  return pieces;
}

/** What is in the pieces, by documents: parts of one are put together. */
async function textsOf(pieces: Piece[], reading: Reading = KEEP, tally = noTally()): Promise<string[]> {
  const texts: string[] = [];
  let begun = false;
  for (const piece of pieces) {
    for await (const { text, ends } of readPiece(piece, reading, tally)) {
      if (begun) texts.push(texts.pop()! + text);
      else texts.push(text);
      begun = !ends;
    }
  }
  assert.ok(!begun);
  return texts;
}

const documentsOf = async (path: string, start?: number, size?: number, reading?: Reading, tally = noTally()) =>
  textsOf(await allPieces(path, start, size, reading), reading, tally);

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

/** In pieces of any size there are the same documents, and reading can start at any of them, as after a kill. */
async function assertReads(path: string, end: number, documents: string[], reading = KEEP, sizes = [1, 100, 1 << 20]) {
  for (const size of sizes) {
    const pieces = await allPieces(path, 0, size, reading);
    assertPartition(pieces, end, size);
    assert.deepEqual(await textsOf(pieces, reading), documents, JSON.stringify([path, size]));
    const middle = pieces.length >> 1;
    assert.deepEqual(await allPieces(path, pieces[middle]!.start, size, reading), pieces.slice(middle));
  }
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
    const end = round % 2 === 0 ? randomText(random, 300).replaceAll("\0", "0") : "";
    const text = `x${parts.join("")}${end}`;
    writeFileSync(path, text);
    for (const size of [1, 2, 7, 50]) {
      const pieces = await allPieces(path, 0, size);
      assertPartition(pieces, Buffer.byteLength(text), size);
      assert.deepEqual(
        pieces.map(({ endsDocument }) => endsDocument),
        pieces.map((_, i) => i === pieces.length - 1),
      );
      const texts: string[] = [];
      for (const piece of pieces) for await (const part of readPiece(piece, KEEP)) texts.push(part.text);
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
  const ends = (await allPieces(path, 0, 10)).map(({ end }) => end);
  assert.deepEqual(ends, [300_000, 600_001, 600_003]);
});

test("UTF-16 texts, marked so, are read in pieces like others", async (t) => {
  const path = join(temporaryFolder(t), "a.txt");
  const random = randomNumbers(12);
  for (let round = 0; round < 20; round++) {
    const words = Array.from({ length: 40 }, () => randomText(random, 3).replaceAll("\0", "0"));
    const text = `\u4e16${words.join(" ")}`;
    const bytes = Buffer.from(`\uFEFF${text}`, "utf16le");
    writeFileSync(path, round % 2 === 0 ? bytes : bytes.swap16());
    await assertReads(path, bytes.length, [text], KEEP, [1, 7, 50]);
    assert.ok((await allPieces(path, 0, 50)).length > 5);
  }
  for (const name of ["a.jsonl", "a.csv"]) {
    writeFileSync(join(path, "..", name), Buffer.from("\uFEFFtext", "utf16le"));
    assert.throws(() => listFiles([join(path, "..", name)]), userError(/is UTF-16; convert it: iconv -f UTF-16/));
  }
});

test("a separator makes documents of a text's parts, wherever its pieces end", async (t) => {
  const path = join(temporaryFolder(t), "a.md");
  const random = randomNumbers(13);
  for (const separator of ["<|endoftext|>", "\n---\n", "\n\n", "=="]) {
    for (let round = 0; round < 10; round++) {
      const documents = Array.from({ length: 30 }, (_, i) => `${"word ".repeat(random() * 9)}end of ${i}`);
      for (const [place, line] of ["\n", "\r\n"].entries()) {
        const blank = place === 0 ? "" : `${separator}\n`; // a document of nothing is none
        const text = `${documents.join(separator)}${separator}${blank}`.replaceAll("\n", line);
        writeFileSync(path, text);
        await assertReads(path, Buffer.byteLength(text), documents, { ...READING, separator }, [1, 20, 1 << 20]);
      }
    }
  }
  writeFileSync(path, "a<|endoftext|>b");
  const tally = noTally();
  assert.deepEqual(await documentsOf(path, 0, 1, READING, tally), ["a<|endoftext|>b"]); // is text, if nobody says more
  assert.equal(tally.end_of_text, 1);
});

test("line ends become \\n in every kind of file, and are counted", async (t) => {
  const folder = temporaryFolder(t);
  const files = {
    "a.txt": "one\r\ntwo\rthree\n",
    "a.jsonl": `${JSON.stringify({ text: "one\r\ntwo\rthree\n" })}\r\n`,
    "a.json": JSON.stringify([{ text: "one\r\ntwo\rthree\n" }]),
    "a.csv": 'id,text\r\n1,"one\r\ntwo\rthree\n"\r\n',
  };
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(join(folder, name), content);
    const tally = noTally();
    assert.deepEqual(await documentsOf(join(folder, name), 0, 1, READING, tally), ["one\ntwo\nthree\n"], name);
    assert.equal(tally.line_ends, 2, name);
    assert.deepEqual(await documentsOf(join(folder, name)), ["one\r\ntwo\rthree\n"], name);
  }
});

test("a .json file's list, or values that follow one another, in pieces of any size", async (t) => {
  const path = join(temporaryFolder(t), "a.json");
  const random = randomNumbers(14);
  const texts = Array.from({ length: 60 }, () => randomText(random, Math.floor(random() * 30)));
  const values = texts.map((text, i) => (i % 7 === 0 ? text : { n: { text: "[,]" }, text, list: ["}", i, '"\\'] }));
  const forms = [
    JSON.stringify(values),
    `\uFEFF ${JSON.stringify(values, null, 2)}\n`,
    values.map((value) => JSON.stringify(value)).join("\n"),
    values.map((value) => JSON.stringify(value, null, 1)).join(""),
  ];
  for (const form of forms) {
    writeFileSync(path, form);
    await assertReads(path, Buffer.byteLength(form), texts);
  }
  for (const [content, found] of [
    ["[]", []],
    ["", []],
    [' [ "a" ] ', ["a"]],
    ['{"text": "b"}', ["b"]],
  ] as const) {
    writeFileSync(path, content);
    assert.deepEqual(await documentsOf(path), found, content);
  }
});

test("a .csv file as spreadsheets write it, in pieces of any size", async (t) => {
  const path = join(temporaryFolder(t), "a.csv");
  const random = randomNumbers(15);
  const texts = Array.from({ length: 60 }, (_, i) =>
    `${randomText(random, random() * 9)},"${i}\r\n;\t""'é`.replaceAll("\0", ""),
  );
  const quoted = (text: string) => `"${text.replaceAll('"', '""')}"`;
  for (const delimiter of [",", ";", "\t"]) {
    for (const line of ["\n", "\r\n", "\r"]) {
      const records = texts.map((text, i) => [i % 3 === 0 ? "" : "x y", quoted(text), `${i} inch"`].join(delimiter));
      const bytes = Buffer.from(`\uFEFF${[["id", '"my text"', "z"].join(delimiter), ...records, ""].join(line)}`);
      writeFileSync(path, bytes);
      await assertReads(path, bytes.length, texts, { ...KEEP, field: "my text" });
    }
  }
  writeFileSync(path, 'text\nplain words\n\n"quoted"\nno end');
  assert.deepEqual(await documentsOf(path, 0, 1), ["plain words", "quoted", "no end"]);
});

test("a row group is read a page at a time", async () => {
  const rows: { body: string | null }[] = JSON.parse(readFileSync(fixture("documents_pages.json"), "utf8"));
  const texts = rows.flatMap(({ body }) => body ?? []);
  const reading = { ...READING, field: "body", skip_bad: true };
  for (const name of ["plain", "dictionary"]) {
    const path = fixture(`documents_pages_${name}.parquet`);
    const pieces = await allPieces(path, 0, 1, reading);
    assert.ok(pieces.length >= 20, `${name}: ${pieces.length} pieces`);
    await assertReads(path, 200, texts, reading, [1]);
    const tally = noTally();
    assert.deepEqual(await textsOf(pieces, reading, tally), texts);
    assert.equal(tally.bad, 4);
    assert.match(tally.first_bad, /parquet, row 8 has no text in its column "body", but null$/);
    assert.equal((await allPieces(path, 0, 2000, reading)).length < pieces.length / 3, true);
    assert.equal((await allPieces(path, 0, undefined, reading)).length, 1);
  }
  await assert.rejects(
    documentsOf(fixture("documents_pages_plain.parquet")),
    userError(/has no field "text"; it has body: give one with --field=body$/),
  );
});

test("rows without a text are left out and counted where that is asked for", async (t) => {
  const folder = temporaryFolder(t);
  const reading = { ...READING, skip_bad: true };
  const files: [string, string, string[], RegExp][] = [
    [
      "a.jsonl",
      '{"text": "a"}\n{"text": null}\n7\n{"text": "b"}\nnot JSON\n',
      ["a", "b"],
      /line 2 has no text in its field "text", but null$/,
    ],
    [
      "a.json",
      '[{"text": "a"}, {"other": 1}, ["x"], 3, {"text": "b"}]',
      ["a", "b"],
      /byte 16, has no field "text", and none that is a text/,
    ],
    ["a.csv", "text,n\na,1\nx\nb,2\ny,3,4\nz", ["a", "b"], /line 3, has 1 fields, and the first line 2$/],
  ];
  for (const [name, content, texts, first] of files) {
    writeFileSync(join(folder, name), content);
    const tally = noTally();
    assert.deepEqual(await documentsOf(join(folder, name), 0, 1, reading, tally), texts);
    assert.equal(tally.bad, 3, name);
    assert.match(tally.first_bad, first);
    await assert.rejects(
      documentsOf(join(folder, name)),
      userError(
        first.source.endsWith("$") ? new RegExp(first.source.slice(0, -1)) : first,
        /\(--skip_bad=true leaves out such rows\)$/,
      ),
    );
  }
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
    await assertReads(path, Buffer.byteLength(lines.join("") + end), expected);
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
  for (const name of ["c.txt", "a.JSONL", "b.txt/z.txt", "notes.md", "b.parquet.part", ".hidden.txt", "code.py"]) {
    writeFileSync(join(folder, name), name.endsWith("JSONL") ? '{"text": "j"}' : name);
  }
  assert.deepEqual(await documentsOf(folder), ["j", "b.txt/z.txt", "c.txt", "notes.md"]);
  const said: string[] = [];
  listFiles([folder, join(folder, "code.py")], (line) => said.push(line));
  assert.match(
    said.join("|"),
    /: 4 files; 2 others are left out.*\|.*code\.py is read as text, as its name doesn't end in/,
  );
  writeFileSync(join(folder, "x, y.txt"), "commas");
  assert.deepEqual(
    listFiles([join(folder, "x"), " y.txt"]).map(({ path }) => path),
    [join(folder, "x, y.txt")],
  );
  const twice = listFiles([join(folder, "c.txt"), folder]).map(({ path }) => path);
  assert.deepEqual(
    twice,
    ["c.txt", "a.JSONL", "b.txt/z.txt", "c.txt", "notes.md", "x, y.txt"].map((name) => join(folder, name)),
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
    [write("a.csv", "x\n1"), /a\.csv has no field "text"; it has x: give one with --field=x$/],
    [write("open.csv", 'text\n"a"\n"b\nc'), /open\.csv, line 3, has a quote that never ends$/],
    [write("cut.json", '[{"text": "a"}, {"te'), /cut\.json, byte 16, is not JSON/],
    [write("end.json", '[{"text": "a"},\n'), /end\.json is cut off: its list has no end$/],
    [write("chat.jsonl", '{"messages": [{"role": "user"}]}'), /none that is a text: messages \(a list\)/],
    [write("zero.txt", "a\0b"), /zero\.txt is not text: it has a zero byte at offset 1;/],
    [write("cut.jsonl", `${good}\n{"text": "b`), /cut\.jsonl, line 9 is not JSON/],
    [
      write("other.jsonl", `${good}{"body": "b"}`),
      /other\.jsonl, line 8 has no field "text"; it has body: give one with --field=body \(--skip_bad/,
    ],
    [
      write("number.jsonl", `${good}{"text": 3}\n${good}`),
      /number\.jsonl, line 8 has no text in its field "text", but a number/,
    ],
    [write("null.jsonl", "null"), /null\.jsonl, line 1 is no object with a field "text", but null/],
    [write("latin.txt", Buffer.concat([Buffer.from("a ".repeat(20)), Buffer.from([0xe9, 0x20])])), /offset 40;/],
    [write("text.parquet", "no parquet at all, but long enough"), /text\.parquet can't be read as parquet: /],
    [write("empty.parquet", ""), /empty\.parquet can't be read as parquet: /],
    [fixture("documents_without_text.parquet"), /has no field "text"; it has body: give one with --field=body$/],
    [fixture("documents_null.parquet"), /documents_null\.parquet, row 2 has no text in its column "text", but null/],
  ];
  for (const [path, pattern] of cases) await assert.rejects(documentsOf(path, 0, 9), userError(pattern));
  mkdirSync(join(folder, "nothing"));
  assert.throws(
    () => listFiles([join(folder, "nothing")]),
    userError(/no \.txt, \.md, .* and \.parquet file in the folder/),
  );

  const path = write("shrinks.jsonl", good);
  const pieces = await allPieces(path, 0, 30);
  truncateSync(path, 40);
  await assert.rejects(textsOf(pieces), userError(/shrinks\.jsonl became shorter/));

  const broken = readFileSync(fixture("documents_zstd.parquet"));
  broken.fill(0x55, 100, 400); // the first row group, but not the footer
  await assert.rejects(documentsOf(write("broken.parquet", broken)), userError(/broken\.parquet can't be read/));
});
