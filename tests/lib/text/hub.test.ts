// lib/text/hub.ts and lib/text/download_file.ts against servers on this machine: whole, resumed, refused and cached files.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";
import { dirname, join } from "node:path";
import test, { type TestContext } from "node:test";
import { pathToFileURL } from "node:url";

import { downloadFile } from "../../../lib/text/download_file.ts";
import { hubFile } from "../../../lib/text/hub.ts";
import { sha256 } from "../../../lib/text/text.ts";
import { ROOT, TSX } from "../../scripts.ts";
import { randomNumbers, serve, temporaryFolder, userError } from "./support.ts";

const random = randomNumbers(1);
const CONTENT = Buffer.from(Array.from({ length: 300_000 }, () => random() * 256));
const HASH = sha256(CONTENT);
const CUT = 100_000; // bytes after which a connection breaks
const REPO = "openai-community/gpt2";
const FILE = "model.safetensors";

const QUICK = { stallMs: 240_000, pauses: [1, 1], warn: () => {} }; // long: the machine may be busy

type Answer = (request: IncomingMessage, response: ServerResponse, count: number) => void;

/** A hub that answers each request with `answer`, an empty cache, and all requests that came. */
async function setUp(t: TestContext, answer: Answer) {
  const requests: IncomingMessage[] = [];
  const listener: RequestListener = (request, response) => answer(request, response, requests.push(request));
  const endpoint = await serve(t, listener);
  const home = join(temporaryFolder(t), "home");
  const env: Record<string, string> = { HF_ENDPOINT: endpoint, HF_HOME: home };
  const path = join(home, "nanogpt", "hub", "openai-community--gpt2", FILE);
  return { requests, endpoint, env, home, path, load: (more = {}) => hubFile(REPO, FILE, { env, ...QUICK, ...more }) };
}

/** As the hub sends a large file that lies with itself; a Range is honoured unless told otherwise. */
function send(
  request: IncomingMessage,
  response: ServerResponse,
  { cut = false, ranges = true, content = CONTENT, etag = HASH } = {},
) {
  const from = ranges ? Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0) : 0;
  response.setHeader("x-linked-etag", `"${etag}"`);
  response.setHeader("x-linked-size", content.length);
  response.setHeader("content-length", content.length - from);
  if (from > 0) response.setHeader("content-range", `bytes ${from}-${content.length - 1}/${content.length}`);
  response.writeHead(from > 0 ? 206 : 200);
  if (cut) response.write(content.subarray(from, CUT), () => setTimeout(() => response.destroy(), 20));
  else response.end(content.subarray(from));
}

const sendWhole: Answer = (request, response) => send(request, response);

/** Nothing but the file is left in its folder. */
function assertWhole(path: string, content = CONTENT) {
  assert.ok(readFileSync(path).equals(content), "other bytes");
  assert.deepEqual(readdirSync(dirname(path)), [FILE]);
}

const leftIn = (path: string) => (existsSync(dirname(path)) ? readdirSync(dirname(path)) : []);

test("a file comes whole, from the address that the hub has for it, and the second time without a request", async (t) => {
  const { load, path, requests } = await setUp(t, sendWhole);
  assert.equal(await load(), path);
  assertWhole(path);
  assert.equal(requests[0]!.url, "/openai-community/gpt2/resolve/main/model.safetensors");
  assert.equal(requests[0]!.headers["accept-encoding"], "identity");
  assert.equal(requests[0]!.headers.authorization, undefined);
  assert.equal(await load(), path);
  assert.equal(requests.length, 1);
});

test("a connection that breaks is taken up where it broke", async (t) => {
  const { load, path, requests } = await setUp(t, (request, response, count) =>
    send(request, response, { cut: count === 1 }),
  );
  await load();
  assertWhole(path);
  assert.deepEqual(
    requests.map(({ headers }) => headers.range),
    [undefined, `bytes=${CUT}-`],
  );
});

test("attempts that bring nothing new end in one line, and a later run goes on from there", async (t) => {
  let broken = true;
  const { load, path, requests } = await setUp(t, (request, response) => send(request, response, { cut: broken }));
  await assert.rejects(load(), userError(/connection broke while loading http:.*model\.safetensors \(/));
  assert.equal(requests.length, 3); // one, and one after each pause
  const partial = `${FILE}.${process.pid}.partial`;
  assert.deepEqual(leftIn(path), [partial, `${partial}.json`]);
  broken = false;
  await load();
  assertWhole(path);
  assert.equal(requests.at(-1)!.headers.range, `bytes=${CUT}-`);
});

test("a server that ignores the range sends the file from the start", async (t) => {
  const { load, path, requests } = await setUp(t, (request, response, count) =>
    send(request, response, { cut: count === 1, ranges: false }),
  );
  await load();
  assertWhole(path);
  assert.equal(requests[1]!.headers.range, `bytes=${CUT}-`);
});

test("a server that always breaks at the same place and ignores the range is given up, not asked for ever", async (t) => {
  const { load, requests } = await setUp(t, (request, response) =>
    send(request, response, { cut: true, ranges: false }),
  );
  await assert.rejects(load(), userError(/connection broke/));
  assert.equal(requests.length, 3);
});

test("a file that changed meanwhile starts over", async (t) => {
  const other = Buffer.from(CONTENT).reverse();
  const { load, path, requests } = await setUp(t, (request, response, count) => {
    if (count === 1) send(request, response, { cut: true });
    else send(request, response, { content: other, etag: sha256(other) });
  });
  await load();
  assertWhole(path, other);
  assert.deepEqual(
    requests.map(({ headers }) => headers.range),
    [undefined, `bytes=${CUT}-`, undefined],
  );
});

test("without an ETag nothing is resumed", async (t) => {
  const { load, path, requests } = await setUp(t, (_, response, count) => {
    response.setHeader("content-length", CONTENT.length);
    if (count === 1) response.write(CONTENT.subarray(0, CUT), () => setTimeout(() => response.destroy(), 20));
    else response.end(CONTENT);
  });
  await load();
  assertWhole(path);
  assert.equal(requests[1]!.headers.range, undefined);
});

test("what a killed process left is taken up by the next", async (t) => {
  const { env, load, path, requests } = await setUp(t, (request, response, count) => {
    if (count > 1) return send(request, response);
    response.writeHead(200, { "x-linked-etag": `"${HASH}"`, "content-length": CONTENT.length });
    response.write(CONTENT.subarray(0, CUT)); // and then nothing more
  });
  const hub = JSON.stringify(pathToFileURL(join(ROOT, "lib", "text", "hub.ts")).href);
  const script = `const { hubFile } = await import(${hub}); await hubFile("${REPO}", "${FILE}");`;
  const child = spawn(process.execPath, [...TSX, "--input-type=module", "-e", script], {
    env: { ...process.env, ...env },
  });
  t.after(() => child.kill("SIGKILL"));
  const partial = `${path}.${child.pid}.partial`;
  while (!existsSync(partial) || readFileSync(partial).length < CUT) {
    assert.equal(child.exitCode, null, "the child ended early");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }

  // while it lives, its half is left alone
  const mine = join(dirname(path), "other");
  await downloadFile(`${env.HF_ENDPOINT}/x`, mine, QUICK);
  assert.ok(existsSync(partial), "a living process lost its half");

  child.kill("SIGINT");
  await once(child, "exit");
  await load();
  assert.ok(readFileSync(path).equals(CONTENT), "other bytes");
  assert.equal(requests.at(-1)!.headers.range, `bytes=${CUT}-`);
  assert.deepEqual(leftIn(path).sort(), [FILE, "other"]);
});

test("two calls at once are one download", async (t) => {
  const { load, path, requests } = await setUp(t, sendWhole);
  await Promise.all([load(), load()]);
  assertWhole(path);
  assert.equal(requests.length, 1);
});

test("a wrong SHA-256 is refused, and nothing stays", async (t) => {
  const { load, path } = await setUp(t, (request, response) => send(request, response, { etag: "0".repeat(64) }));
  await assert.rejects(load(), userError(/another file than it says: checksum/, new RegExp(HASH), /0{64}/));
  assert.deepEqual(leftIn(path), []);
});

test("a small file is checked against git's SHA-1", async (t) => {
  const text = Buffer.from("hello\n");
  let etag = "ce013625030ba8dba906f756967f9e9ca394464a"; // by git hash-object
  const { load, path, env } = await setUp(t, (_, response) => {
    response.writeHead(200, { "x-repo-commit": "1".repeat(40), etag: `W/"${etag}"`, "content-length": text.length });
    response.end(text);
  });
  await load();
  assertWhole(path, text);
  etag = `0${etag.slice(1)}`;
  await assert.rejects(hubFile(REPO, "config.json", { env, ...QUICK }), userError(/checksum ce0136.*, not 0e0136/));
  assert.deepEqual(leftIn(path), [FILE]);
});

test("more bytes than the hub says are refused", async (t) => {
  const { load, path } = await setUp(t, (_, response) => {
    response.setHeader("x-linked-etag", `"${HASH}"`);
    response.setHeader("x-linked-size", CONTENT.length - 1);
    response.end(CONTENT);
  });
  await assert.rejects(load(), userError(/sent more than the 299999 bytes/));
  assert.equal(existsSync(path), false);
});

test("the token goes to the hub and not to where it leads; checksum and resuming hold there, too", async (t) => {
  const elsewhere: IncomingMessage[] = [];
  const cdn = await serve(t, (request, response) => {
    const count = elsewhere.push(request);
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
    response.setHeader("etag", `"of the other server ${count}"`);
    response.setHeader("content-length", CONTENT.length - from);
    if (from > 0) response.writeHead(206, { "content-range": `bytes ${from}-${CONTENT.length - 1}/${CONTENT.length}` });
    if (count === 1) response.write(CONTENT.subarray(0, CUT), () => setTimeout(() => response.destroy(), 20));
    else response.end(CONTENT.subarray(from));
  });
  let etag = HASH;
  const { load, env, path, requests } = await setUp(t, (request, response) => {
    const moved = request.url!.startsWith("/moved");
    if (moved) response.setHeader("x-linked-etag", `"${etag}"`);
    if (moved) response.setHeader("x-linked-size", CONTENT.length);
    response.writeHead(302, { location: moved ? `${cdn}/blob?signature=1` : `/moved${request.url}` }).end();
  });
  env.HF_TOKEN = " hf_secret\n";
  await load();
  assertWhole(path);
  assert.deepEqual(
    requests.map(({ headers }) => headers.authorization),
    Array(4).fill("Bearer hf_secret"), // two hops of two attempts
  );
  assert.deepEqual(
    elsewhere.map(({ headers }) => headers.authorization),
    [undefined, undefined],
  );
  assert.deepEqual(
    elsewhere.map(({ headers }) => headers.range),
    [undefined, `bytes=${CUT}-`],
  );
  etag = "0".repeat(64);
  await assert.rejects(hubFile(REPO, "other", { env, ...QUICK }), userError(/checksum/));
});

test("a redirect in a circle, and one to no web address, are one line", async (t) => {
  let location = "/again";
  const { load } = await setUp(t, (_, response) => response.writeHead(302, { location }).end());
  await assert.rejects(load(), userError(/without end/));
  location = "file:///etc/hostname";
  await assert.rejects(load(), userError(/leads to no web address/));
});

const REFUSALS: [number, string, RegExp][] = [
  [404, "", /answered 404 Not Found: openai-community\/gpt2 has no model\.safetensors/],
  [401, "", /answered 401 Unauthorized: .*gated or private.*set HF_TOKEN/],
  [403, "hf_mine", /answered 403 Forbidden: the token in HF_TOKEN may not read.*ask for access at http/],
  [400, "", /answered 400 Bad Request$/],
];
for (const [status, token, message] of REFUSALS) {
  test(`${status} is one line, at once`, async (t) => {
    const { load, path, env, requests } = await setUp(t, (_, response) => response.writeHead(status).end("no"));
    env.HF_TOKEN = token;
    await assert.rejects(load(), userError(message));
    assert.equal(requests.length, 1);
    assert.deepEqual(leftIn(path), []);
  });
}

test("a server with trouble of its own is asked again", async (t) => {
  const said: string[] = [];
  const { env, path, requests } = await setUp(t, (request, response, count) => {
    if (count < 3) response.writeHead(503).end();
    else send(request, response);
  });
  await hubFile(REPO, FILE, { env, ...QUICK, warn: (line) => said.push(line) });
  assertWhole(path);
  assert.equal(requests.length, 3);
  assert.match(said.join("\n"), /answered 503 Service Unavailable; trying again in 0.001 s/);
});

test("a server that falls silent is given up after the stall time, before the answer and within", async (t) => {
  const { load } = await setUp(t, (_, response, count) => {
    if (count > 1) response.writeHead(200, { "content-length": 10 }).write("half");
  });
  const silent = userError(/sent nothing for 0\.3 seconds and no copy of/);
  await assert.rejects(load({ stallMs: 300 }), silent);
  await assert.rejects(load({ stallMs: 300 }), userError(/sent nothing for 0\.3 seconds$/));
});

test("no route and no copy: one line names both places and what to do, at once", async (t) => {
  const { load, env, home, path } = await setUp(t, () => assert.fail("no request expected"));
  const advice = [
    "here: looked for ",
    path,
    ` and ${join(home, "hub", "models--openai-community--gpt2")}`,
    `; bring the file and put it at ${path}`,
  ].map((part) => new RegExp(part.replace(/[.\\]/g, "\\$&")));
  env.HF_ENDPOINT = "http://127.0.0.1:1/";
  const pauses = [60_000]; // must not be waited for
  const noRoute =
    /^no route to http:\/\/127\.0\.0\.1:1\/openai-community\/\S+ \((ECONNREFUSED|bad port)\) and no copy of/;
  await assert.rejects(hubFile(REPO, FILE, { env, pauses }), userError(noRoute, ...advice));
  env.HF_ENDPOINT = "http://nowhere.invalid";
  await assert.rejects(hubFile(REPO, FILE, { env, pauses }), userError(/^no route .* \((ENOTFOUND|EAI_AGAIN)\) and/));
  env.HF_HUB_OFFLINE = "1";
  await assert.rejects(load(), userError(/^HF_HUB_OFFLINE is set and no copy of/, ...advice));

  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, "brought along");
  assert.equal(await load(), path);
});

test("a file in the cache of Python's huggingface_hub is used where it lies, offline as well", async (t) => {
  const { load, env, home, requests } = await setUp(t, sendWhole);
  const commit = "607a30d783dfa663caf39e06633721c8d4cfcd7e";
  for (const [cache, change] of [
    [join(home, "hub"), {}],
    [join(home, "elsewhere"), { HF_HUB_CACHE: join(home, "elsewhere") }],
  ] as const) {
    const repo = join(cache, "models--openai-community--gpt2");
    const theirs = join(repo, "snapshots", commit, FILE);
    mkdirSync(dirname(theirs), { recursive: true });
    mkdirSync(join(repo, "refs"));
    writeFileSync(theirs, "theirs");
    writeFileSync(join(repo, "refs", "main"), commit);
    Object.assign(env, change);
    assert.equal(await load(), theirs);
  }
  assert.equal(requests.length, 0);
  writeFileSync(join(home, "elsewhere", "models--openai-community--gpt2", "refs", "main"), "../../..");
  env.HF_HUB_OFFLINE = "true";
  await assert.rejects(load(), userError(/HF_HUB_OFFLINE/));
});

test("names that lead out of the cache, and settings that can't be, are one line", async (t) => {
  const { env } = await setUp(t, () => assert.fail("no request expected"));
  for (const repo of ["", "..", "../x", "a/../b", "/a", "a b", "a\\b"]) {
    await assert.rejects(hubFile(repo, FILE, { env }), userError(/isn't a repository's name/));
  }
  for (const file of ["../x", "/etc/passwd", "", "a//b"]) {
    await assert.rejects(hubFile(REPO, file, { env }), userError(/isn't a file name/));
  }
  await assert.rejects(hubFile(REPO, FILE, { env: { ...env, HF_TOKEN: "a\nb" } }), (error) => {
    assert.doesNotMatch(String(error), /a\nb/);
    return userError(/HF_TOKEN/)(error);
  });
  for (const HF_ENDPOINT of ["nonsense", "ftp://x"]) {
    await assert.rejects(hubFile(REPO, FILE, { env: { ...env, HF_ENDPOINT } }), userError(/no web address/));
  }
});

test("a folder that can't be made is one line", async (t) => {
  const { load, home } = await setUp(t, sendWhole);
  writeFileSync(home, "a file where the folder should be");
  await assert.rejects(load(), userError(/can't download to .*model\.safetensors: /));
});

test("downloadFile makes the folders; a file of no known length is loaded, too", async (t) => {
  const url = await serve(t, (_, response) => {
    response.write(CONTENT.subarray(0, CUT));
    response.end(CONTENT.subarray(CUT));
  });
  const path = join(temporaryFolder(t), "a", "b", FILE);
  await downloadFile(`${url}/file`, path, { label: "a file", ...QUICK });
  assertWhole(path);
  assert.equal(createHash("sha256").update(readFileSync(path)).digest("hex"), HASH);
});
