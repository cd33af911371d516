// The script itself, on documents of our own: the same files from any number of threads, with and without kills.

import assert from "node:assert/strict";
import { once as onceTold } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, watch, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { downloadOpenWebText } from "../../data/openwebtext/download.ts";
import { keyOf, uniform } from "../../lib/common/rng.ts";
import { GPT2_META, readMeta } from "../../lib/text/meta.ts";
import { createTokenizer } from "../../lib/text/tokenizer.ts";
import { randomNumbers, serve, userError } from "../lib/text/support.ts";
import {
  assertRefused,
  assertSucceeded,
  contentsOf,
  flags,
  launch,
  once,
  oneProcess,
  temporaryFolder,
} from "../scripts.ts";

const SCRIPT = "data/openwebtext/prepare.ts";
const FOLDER = temporaryFolder();
const runHere = oneProcess();
const FIXTURES = fileURLToPath(new URL("../fixtures/", import.meta.url));
const fixture = (name: string) => join(FIXTURES, name);
const args = (input: string, out: string, more: Record<string, string | number | boolean> = {}) =>
  flags({ input, out: join(FOLDER, out), workers: 1, val_fraction: 0.2, ...more });

const prepare = async (...given: Parameters<typeof args>) =>
  assertSucceeded(await runHere(SCRIPT, args(...given)), given[1]);

/** train.bin and val.bin, as numbers. */
function tokensOf(out: string): Record<"train" | "val", number[]> {
  const read = (name: string) => {
    const bytes = readFileSync(join(FOLDER, out, name));
    return Array.from({ length: bytes.length / 2 }, (_, i) => bytes.readUInt16LE(2 * i));
  };
  return { train: read("train.bin"), val: read("val.bin") };
}

/** What is in a folder, by the files' names. */
function filesOf(out: string): Record<string, string> {
  const folder = join(FOLDER, out);
  return Object.fromEntries(
    Object.entries(contentsOf(folder)).map(([path, sum]) => [path.slice(folder.length + 1), sum]),
  );
}

test("each document with <|endoftext|> behind it goes where the seed says; all formats give the same", async () => {
  const lines = readFileSync(fixture("documents.jsonl"), "utf8").trimEnd().split("\n");
  const documents = lines.map((line): string => JSON.parse(line).text);
  const { encode } = await createTokenizer(GPT2_META);
  const expected = { train: [] as number[], val: [] as number[] };
  const validation = keyOf(2357, "validation documents");
  documents.forEach((text, i) => {
    expected[uniform(validation, i) < 0.2 ? "val" : "train"].push(...encode(text), 50_256);
  });
  assert.ok(expected.val.length > 20 && expected.train.length > 200);

  const texts = join(FOLDER, "texts"); // .txt files of the same documents
  mkdirSync(texts);
  documents.forEach((text, i) => {
    writeFileSync(join(texts, `${String(i).padStart(3, "0")}.txt`), text);
  });
  const inputs = { jsonl: fixture("documents.jsonl"), zstd: fixture("documents_zstd.parquet"), separate: texts };
  for (const [name, input] of Object.entries(inputs)) {
    const stdout = await prepare(input, name);
    assert.deepEqual(tokensOf(name), expected, name);
    assert.match(
      stdout,
      /^documents: {2}40, of them 6 for validation\ntrain\.bin: {2}560 tokens\nval\.bin: {4}68 tokens$/m,
    );
    assert.deepEqual(readdirSync(join(FOLDER, name)).sort(), ["meta.json", "train.bin", "val.bin"]);
    const meta = readMeta(join(FOLDER, name));
    assert.ok(meta?.source && "documents" in meta.source);
    assert.deepEqual([meta.kind, meta.train_tokens, meta.val_tokens], ["gpt2", 560, 68]);
    assert.deepEqual([meta.source.documents, meta.source.files], [40, name === "separate" ? 40 : 1]);
  }

  // another seed, another choice of the same documents
  await prepare(inputs.jsonl, "seeded", { seed: 1 });
  const seeded = tokensOf("seeded");
  assert.notDeepEqual(seeded.val, expected.val);
  assert.equal(seeded.val.length + seeded.train.length, 628);
});

/** Some megabytes of many short documents and one long text, of which a thread has a second of work; prepared undisturbed in "one". */
const largeInput = once(async () => {
  const random = randomNumbers(11);
  const letters = "etaoin shrdlu\n";
  const words = Array.from({ length: 20_000 }, () => {
    return Array.from({ length: 2 + random() * 9 }, () => letters[Math.floor(random() * letters.length)]).join("");
  });
  const text = (count: number) =>
    Array.from({ length: count }, () => words[Math.floor(random() ** 3 * words.length)]).join(" ");
  const folder = join(FOLDER, "large");
  mkdirSync(folder);
  const lines = Array.from({ length: 2000 }, () => JSON.stringify({ text: text(300 * random()) }));
  writeFileSync(join(folder, "a.jsonl"), lines.join("\n"));
  writeFileSync(join(folder, "b.txt"), text(400_000));
  writeFileSync(join(folder, "c.jsonl"), lines.slice(0, 700).join("\n"));
  writeFileSync(join(folder, "d.parquet"), readFileSync(fixture("documents_snappy.parquet")));
  await prepare(folder, "one");
  return folder;
});

/** Wait until a file in `folder` is written. */
async function nextChange(folder: string, name: string, ended: Promise<unknown>): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const watcher = watch(folder);
  const changed = new Promise<void>((resolve) => {
    watcher.on("change", (_, file) => {
      if (file === name) resolve();
    });
  });
  await Promise.race([changed, ended]);
  watcher.close();
}

test("the same bytes from one thread, from three, and after kill -9 at any moment", async () => {
  const input = await largeInput();
  await prepare(input, "three", { workers: 3 });
  assert.deepEqual(filesOf("three"), filesOf("one"));

  const random = randomNumbers(12);
  const out = join(FOLDER, "killed");
  let kills = 0;
  for (let round = 0; round < 4; round++) {
    const interrupted = existsSync(join(out, "meta.json.partial")); // else the one before had come to the end
    const { child, ended } = launch(SCRIPT, args(input, "killed", { workers: 1 + (round % 2) }));
    await nextChange(out, "meta.json.partial", ended); // it has saved
    await new Promise((resolve) => setTimeout(resolve, 150 * random()));
    child.kill("SIGKILL");
    const { signal, stdout, stderr } = await ended;
    if (signal !== "SIGKILL")
      assert.match(stdout, /^val\.bin/m, stderr); // it had come to the end
    else {
      kills++;
      assert.ok(!existsSync(join(out, "meta.json")) || existsSync(join(out, "val.bin")));
      if (interrupted) assert.match(stdout, /^resuming after [\d,]+ documents/m);
    }
  }
  assert.ok(kills >= 2, `only ${kills} kills fell into the work`);

  // an interrupted run is for its own input and settings
  assertRefused(
    await runHere(SCRIPT, args(input, "killed", { seed: 3 })),
    /with other input or settings .*--restart=true/,
  );
  await prepare(input, "killed");
  assert.deepEqual(filesOf("killed"), filesOf("one"));
});

test("Ctrl-C stops it where it can go on; --restart=true throws that away", async () => {
  const input = await largeInput();
  const { child, ended } = launch(SCRIPT, args(input, "stopped"));
  await nextChange(join(FOLDER, "stopped"), "meta.json.partial", ended);
  child.kill("SIGINT");
  const { code, stdout } = await ended;
  assert.equal(code, 130);
  assert.match(stdout, /^stopped after [\d,]+ documents; the same command continues from there$/m);
  const again = await prepare(input, "stopped", { restart: true });
  assert.doesNotMatch(again, /going on/);
  assert.deepEqual(filesOf("stopped"), filesOf("one"));
});

test("what can't be used is one line, and nothing is left", async () => {
  const bad = join(FOLDER, "bad.jsonl");
  const single = join(FOLDER, "single.txt");
  writeFileSync(single, "One document.");
  writeFileSync(bad, '{"text": "good"}\n'.repeat(1000).concat('{"text": '));
  const cases: [string, Record<string, string | number>, RegExp][] = [
    [bad, {}, /bad\.jsonl, line 1001 is not JSON/],
    [join(FOLDER, "none.txt"), {}, /no file or folder/],
    [single, {}, /1 documents in the input, and it takes two/],
    [fixture("documents.jsonl"), { val_fraction: 0 + 1e-9 }, /none of 40 documents fell to val\.bin; use a larger/],
    [fixture("documents.jsonl"), { val_fraction: 1 }, /val_fraction must be a number from 0 to below 1/],
    [fixture("documents.jsonl"), { workers: -1 }, /workers must be an integer of at least 0/],
  ];
  for (const [input, more, pattern] of cases) assertRefused(await runHere(SCRIPT, args(input, "bad", more)), pattern);
  assert.ok(!existsSync(join(FOLDER, "bad")) || readdirSync(join(FOLDER, "bad")).length === 0);
});

test("OpenWebText comes from the hub once", async (t) => {
  const folder = join(FOLDER, "download");
  const requests: string[] = [];
  const endpoint = await serve(t, ({ url = "" }, response) => {
    requests.push(url);
    const file = /^\/files\/(\d)\.parquet$/.exec(url)?.[1];
    if (file !== undefined) return void response.end(readFileSync(fixture("documents_zstd.parquet")));
    const urls = [0, 1].map((i) => `${endpoint}/files/${i}.parquet`);
    response.end(JSON.stringify({ plain_text: { train: urls } }));
  });
  const env = { HF_ENDPOINT: `${endpoint}/` };
  const paths = await downloadOpenWebText(folder, env);
  assert.deepEqual(paths, [join(folder, "00000.parquet"), join(folder, "00001.parquet")]);
  for (const path of paths) assert.deepEqual(readFileSync(path), readFileSync(fixture("documents_zstd.parquet")));
  const all = ["/api/datasets/Skylion007/openwebtext/parquet", "/files/0.parquet", "/files/1.parquet"];
  assert.deepEqual(requests, all);
  assert.deepEqual(await downloadOpenWebText(folder, env), paths);
  assert.deepEqual(requests, all); // nothing was asked for again
});

test("without a way to the hub it is one line that names --input", async (t) => {
  const folder = join(FOLDER, "offline");
  const get = (HF_ENDPOINT: string) => downloadOpenWebText(folder, { HF_ENDPOINT });
  const closed = createServer().listen(0, "127.0.0.1");
  await onceTold(closed, "listening");
  const { port } = closed.address() as AddressInfo;
  await new Promise((resolve) => closed.close(resolve));
  await assert.rejects(get(`http://127.0.0.1:${port}`), userError(/^no route to http:.*ECONNREFUSED/, /--input=FILE/));
  await assert.rejects(get("nowhere"), userError(/HF_ENDPOINT makes nowhere\//));
  let answer = "";
  const endpoint = await serve(t, (_, response) => response.writeHead(answer === "" ? 404 : 200).end(answer));
  await assert.rejects(get(endpoint), userError(/answered 404 Not Found; give documents/));
  for (answer of ["<html>", "{}", '{"plain_text": {"test": ["http://x/"]}}', '{"a": {"train": ["x"]}}']) {
    await assert.rejects(get(endpoint), userError(/lists no parquet files of a split "train"; give documents/));
  }
  assert.ok(!existsSync(folder));
});
