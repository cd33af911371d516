import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { defaultStart } from "../../../lib/decoding/start.ts";
import { prepareCharacters } from "../../../lib/text/characters.ts";
import { GPT2_META, readMeta } from "../../../lib/text/meta.ts";
import { createTokenizer, type Tokenizer } from "../../../lib/text/tokenizer.ts";
import { characterMeta, randomNumbers, randomText, temporaryFolder, userError } from "./support.ts";

const source = { name: "a test", sha256: "" };

function stream(tokenizer: Tokenizer, tokens: number[]): string[] {
  const decoder = tokenizer.decoder();
  return [...tokens.map((token) => decoder.push(token)), decoder.end()];
}

test("characters: round trips, from the folder and from a checkpoint's copy of the meta", async (t) => {
  const directory = temporaryFolder(t);
  const text = randomText(randomNumbers(3), 2000);
  prepareCharacters({ text, source, directory });
  const loaded = await createTokenizer(readMeta(directory));
  const stored = await createTokenizer(JSON.parse(JSON.stringify(loaded.meta)));
  for (const tokenizer of [loaded, stored]) {
    const tokens = tokenizer.encode(text);
    assert.equal(tokens.length, [...text].length);
    assert.ok(tokens.every((token) => token >= 0 && token < tokenizer.vocabSize));
    assert.equal(tokenizer.decode(tokens), text);
    assert.equal(stream(tokenizer, tokens).join(""), text);
  }
});

test("characters: one that is not known is named with its code point and with those that are", async () => {
  const tokenizer = await createTokenizer({
    kind: "char",
    vocab_size: 3,
    itos: ["\n", "_", "a"],
    stoi: { "\n": 0, _: 1, a: 2 },
  });
  assert.deepEqual(tokenizer.encode("a_\n"), [2, 1, 0]);
  assert.throws(() => tokenizer.encode("a\u00e9"), userError(/"\u00e9" \(U\+00E9\)/, /has 3: \\n_a$/));
  assert.throws(() => tokenizer.encode("\u{1F642}"), userError(/U\+1F642/));
  assert.throws(() => tokenizer.encode("\0"), userError(/"\\u0000" \(U\+0000\)/));
  assert.equal(tokenizer.decode([2, 3, -1]), "a\uFFFD\uFFFD");
});

test("a broken meta.json is one line with the field and the way to a new one", async (t) => {
  const folder = temporaryFolder(t);
  const good = { kind: "char", vocab_size: 2, itos: ["a", "b"], stoi: { a: 0, b: 1 } };
  const cases: [unknown, RegExp][] = [
    [{ ...good, kind: "words" }, /kind/],
    [{ ...good, itos: undefined }, /itos/],
    [{ ...good, itos: ["a", 1] }, /itos\.1/],
    [{ ...good, stoi: { a: 0, b: "1" } }, /stoi\.b/],
    [{ ...good, vocab_size: 3 }, /vocab_size is 3, but itos has 2/],
    [{ ...good, itos: ["a", "bc"] }, /itos\.1 is not one character/],
    [{ ...good, stoi: { a: 1, b: 0 } }, /itos\.0 has another number/],
    [{ ...good, itos: ["a", "a"] }, /itos\.1 has another number/],
    [{ ...good, stoi: { a: 0 } }, /stoi has 1/],
    [{ kind: "gpt2", vocab_size: 50304 }, /vocab_size/],
    [[], /whole|kind/],
    [null, /whole|kind/],
  ];
  for (const [i, [meta, pattern]] of cases.entries()) {
    const directory = join(folder, `${i}`);
    mkdirSync(directory);
    writeFileSync(join(directory, "meta.json"), JSON.stringify(meta));
    assert.throws(() => readMeta(directory), userError(/meta\.json/, pattern, /prepare/));
    await assert.rejects(createTokenizer(meta, "ckpt.json"), userError(/^ckpt\.json/, pattern));
  }
  writeFileSync(join(folder, "meta.json"), '{"kind": "char", ');
  assert.throws(() => readMeta(folder), userError(/meta\.json: it is not JSON/));
});

test("tokens without a text are their numbers", async () => {
  const tokenizer = await createTokenizer({ vocab_size: 300 });
  assert.deepEqual(tokenizer.encode(" 12 7,299\n"), [12, 7, 299]);
  assert.equal(tokenizer.decode([12, 7, 299]), "12 7 299");
  assert.equal(`12${stream(tokenizer, [7, 299]).join("")}`, "12 7 299");
  for (const text of ["300", "-1", "1.5", "O Romeo", "0x10"]) {
    assert.throws(() => tokenizer.encode(text), userError(/the model's tokens have no text.*0 to 299/));
  }
  assert.deepEqual(tokenizer.encode(defaultStart(tokenizer)), [0]);
});

test("without a meta.json it is GPT-2, and the same tokens as tiktoken's", async (t) => {
  const tokenizer = await createTokenizer(readMeta(temporaryFolder(t)) ?? GPT2_META);
  assert.deepEqual(tokenizer.meta, GPT2_META);
  assert.equal(tokenizer.vocabSize, 50_257);
  // from tiktoken 0.12, get_encoding("gpt2"), allowed_special={"<|endoftext|>"}
  const cases: [string, number[]][] = [
    ["", []],
    ["Hello world", [15496, 995]],
    ["  two  spaces\n\n\n", [220, 734, 220, 9029, 628, 198]],
    ["it's I'LL they've", [270, 338, 314, 6, 3069, 484, 1053]],
    [
      "na\u00efve caf\u00e9 \u4e16\u754c \u{1F642}\u{1F643}",
      [2616, 38776, 40304, 220, 10310, 244, 45911, 234, 32485, 8582, 247, 225],
    ],
    ["a<|endoftext|>b<|endoftext|>", [64, 50256, 65, 50256]],
    ["x \u0085 y\u0085", [87, 1587, 227, 331, 126, 227]],
    ["\uFEFFa\uFEFF b", [171, 119, 123, 64, 171, 119, 123, 275]],
    ["1234 5\t6\r\n", [1065, 2682, 642, 197, 21, 201, 198]],
    ["<|endoftext", [27, 91, 437, 1659, 5239]],
    ["\u3000\u2009z", [5099, 222, 447, 231, 89]],
  ];
  for (const [text, tokens] of cases) {
    assert.deepEqual(tokenizer.encode(text, { special: true }), tokens, JSON.stringify(text));
    assert.equal(tokenizer.decode(tokens), text);
  }
});

test("GPT-2: round trips, and a stream gives whole characters only", async () => {
  const tokenizer = await createTokenizer(GPT2_META);
  const random = randomNumbers(4);
  for (let i = 0; i < 100; i++) {
    const text = randomText(random, 1 + Math.floor(random() * 100));
    const tokens = tokenizer.encode(text);
    assert.equal(tokenizer.decode(tokens), text);
    const parts = stream(tokenizer, tokens);
    assert.equal(parts.join(""), text);
    assert.ok(parts.every((part) => !/\p{Surrogate}/u.test(part)));
    assert.equal(parts.join("").includes("\uFFFD"), text.includes("\uFFFD"));
  }
});

test("GPT-2: any tokens at all decode, streamed as in one go", async () => {
  const tokenizer = await createTokenizer(GPT2_META);
  const random = randomNumbers(5);
  for (let i = 0; i < 100; i++) {
    const tokens = Array.from({ length: 50 }, () => Math.floor(random() * (i % 2 === 0 ? 256 : 50_304)));
    assert.equal(stream(tokenizer, tokens).join(""), tokenizer.decode(tokens));
  }
  const [half = 0] = tokenizer.encode("\u{1F642}");
  assert.deepEqual(stream(tokenizer, [half]), ["", "\uFFFD"]);
  assert.equal(tokenizer.decode([64]), "a"); // nothing left of the half character before
  assert.equal(tokenizer.decode([50_300, 64]), "\uFFFDa");
});

test("<|endoftext|> is text, unless its token is asked for", async () => {
  const tokenizer = await createTokenizer(GPT2_META);
  // from tiktoken 0.12, encode_ordinary
  const ordinary = [64, 27, 91, 437, 1659, 5239, 91, 29, 65];
  assert.deepEqual(tokenizer.encode("a<|endoftext|>b"), ordinary);
  assert.deepEqual(tokenizer.encode("a<|endoftext|>b", { special: false }), ordinary);
  assert.deepEqual(tokenizer.encode("a<|endoftext|>b", { special: true }), [64, 50256, 65]);
  assert.equal(tokenizer.decode(ordinary), tokenizer.decode([64, 50256, 65]));

  const text = "<|endoftext|>";
  const characters = await createTokenizer(characterMeta([...new Set(text)].join("")));
  assert.equal(characters.encode(text, { special: true }).length, text.length); // they have no such token
});

test("GPT-2: round trips of all that Unicode can do", async () => {
  const { encode, decode } = await createTokenizer(GPT2_META);
  const family = "\u{1F468}\u200D\u{1F469}\u200D\u{1F467}\u200D\u{1F466}"; // four emoji, joined
  const texts = [
    family,
    `${family.repeat(3)} \u{1F3F4}\u{E0067}\u{E0062}\u{E007F} \u2764\uFE0F\u200D\u{1F525}`,
    "e\u0301\u0323\u0344 a\u030A \u1112\u1161\u11AB \u0E19\u0E49\u0E33",
    "\u202Eright to left\u202C \u05E9\u05C1\u05B8\u05DC\u05D5\u05B9\u05DD",
    Array.from({ length: 0xa1 }, (_, i) => String.fromCharCode(i)).join(""), // all control characters
    Array.from({ length: 0xa1 }, (_, i) => `x${String.fromCharCode(i)}`).join(" "),
    "\uFEFF\uFFFE\uFFFF\u{10FFFF}\u{1FFFE}\uFDD0\uE000\u{F0000}", // marks, no characters, private ones
    "\r\n\u2028\u2029\u0085\v\f \u00A0\u3000\u180E\u200B",
  ];
  for (const text of texts) {
    assert.equal(decode(encode(text)), text, JSON.stringify(text));
    assert.equal(decode(encode(text)), text); // now from the words that it has seen
  }
});

test("GPT-2: half a character is encoded as U+FFFD", async () => {
  const { encode, decode } = await createTokenizer(GPT2_META);
  for (const text of ["\uD83D", "a\uDE42b", "\uDE42\uD83D", "it\uD83D's", " \uD83D \uD83D\uDE42"]) {
    const wellFormed = Buffer.from(text).toString();
    assert.deepEqual(encode(text), encode(wellFormed));
    assert.equal(decode(encode(text)), wellFormed);
  }
  assert.deepEqual(encode("\uD83D"), [4210]); // tiktoken 0.12's token of U+FFFD
});

test("GPT-2: a word that would take gigabytes of memory is one line", async () => {
  const { encode } = await createTokenizer(GPT2_META);
  assert.throws(
    () => encode(`a ${"xy".repeat(2 ** 23)} b`),
    userError(/^a word of 16,777,217 characters without white space/),
  );
});

test("GPT-2: a word of a megabyte takes no time and no stack", async () => {
  const tokenizer = await createTokenizer(GPT2_META);
  // some 0.5 s each; beyond what a file of tests may take if time grew with the square
  for (const part of ["a", "\u{1F642}", "Donaudampf"]) {
    const text = part.repeat(1e6 / part.length);
    assert.equal(tokenizer.decode(tokenizer.encode(text)), text);
  }
});
