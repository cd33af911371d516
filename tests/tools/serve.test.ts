// tools/serve.ts in a real browser: the page writes what the model writes in Node, shows the model's probabilities, and
// asks nobody else. Needs Chromium or Chrome, found by its name or named by the environment's CHROME; skipped without.

import assert from "node:assert/strict";
import { mkdirSync, readdirSync } from "node:fs";
import { request } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { before, test } from "node:test";
import type { Page } from "playwright-core";
import { keyOf, uniform } from "../../lib/common/rng.ts";
import { tf } from "../../lib/common/tf.ts";
import { continueTokens } from "../../lib/decoding/generate.ts";
import { createPlainDecoder } from "../../lib/decoding/plain_decoder.ts";
import { createTokenizer } from "../../lib/text/tokenizer.ts";
import type { GPT } from "../../model.ts";
import { characterMeta } from "../lib/text/support.ts";
import { assertRefused, type Running, run, temporaryFolder } from "../scripts.ts";
import { saveModel, shaken } from "../support.ts";
import { complaints, inBrowser, openPage as openAny, serve as serveScript } from "./browser.ts";

const FOLDER = temporaryFolder();
const TEMPORARY = join(FOLDER, "tmp"); // where the server puts its own folder
const env = { TMPDIR: TEMPORARY, TEMP: TEMPORARY, TMP: TEMPORARY };

const META = characterMeta("\n abcdefghijklmnopé🙂");
const model = shaken({ vocab_size: META.vocab_size, block_size: 8 });
const tokenizer = await createTokenizer(META);
const gpt2 = shaken({ vocab_size: 50_257, n_layer: 1, tie_weights: false });

// tokens that end inside of a character come up often in this one
const gpt2Tokenizer = await createTokenizer({ kind: "gpt2", vocab_size: 50_257 });
for (const token of gpt2Tokenizer.encode("🙂é漢 x")) gpt2.lmHead.data.fill(3, token * 8, token * 8 + 4);

let server: Running;
let url = "";

const serve = (...flags: string[]) => serveScript("tools/serve.ts", flags, { cwd: FOLDER, env });

before(async () => {
  mkdirSync(TEMPORARY);
  await saveModel(join(FOLDER, "out"), model, { tokenizer: META });
  await saveModel(join(FOLDER, "gpt2-like"), gpt2);
  await saveModel(join(FOLDER, "numbers"), model, { tokenizer: { kind: "ids", vocab_size: META.vocab_size } });
  [server, url] = await serve();
});

/** A page whose model is loaded. */
async function openPage(address = url): Promise<Page> {
  const page = await openAny(address);
  await page.waitForSelector("#loading", { state: "hidden" });
  return page;
}

/** Fill the form in, generate to the end, give the text. */
async function generated(page: Page, settings: Record<string, string | number>): Promise<string> {
  for (const [id, value] of Object.entries(settings)) await page.fill(`#${id}`, String(value));
  await page.press("#prompt", "Control+Enter");
  await page.waitForSelector("#generate:enabled");
  assert.equal(await page.textContent("#error"), "");
  return `${await page.textContent("#given")}${await page.textContent("#tokens")}`;
}

interface Options {
  temperature: number;
  top_k: number;
  max_new_tokens: number;
  seed: number;
}

/** What the plain decoder draws from the same numbers. */
function expectedTokens(of: GPT, prompt: number[], options: Options): Promise<number[]> {
  const random = (sample: number, step: number) => uniform(keyOf(options.seed, "sample", sample), step);
  return continueTokens(createPlainDecoder(of), prompt, { ...options, random });
}

function probabilities(tokens: number[]): number[] {
  const window = tokens.slice(-model.config.block_size);
  const logits = model.nextLogits(tf.tensor2d([window], undefined, "int32"), tf.tensor1d([window.length - 1], "int32"));
  return [...tf.softmax(logits).dataSync()];
}

const GREEDY = { temperature: 0, top_k: 0, max_new_tokens: 20, seed: 1 };
const PROMPT = tokenizer.encode("a é🙂");

test(
  "greedy text is the model's, past block_size too, and a token's bars are its probabilities",
  inBrowser,
  async () => {
    const expected = await expectedTokens(model, PROMPT, GREEDY);
    const page = await openPage();
    assert.match((await page.textContent("header"))!, /2 layers, 2 heads, 8 wide, block 8.*WebAssembly, \d+ thread/s);
    assert.equal(await generated(page, { prompt: "a é🙂", ...GREEDY }), tokenizer.decode([...PROMPT, ...expected]));
    assert.match((await page.textContent("#speed"))!, /^20 tokens, [\d.]+ tokens\/s$/);

    for (const index of [2, 15]) {
      await page.click(`[data-index="${index}"]`);
      await page.getByText(`Token ${index + 1} of 20`).waitFor();
      const should = probabilities([...PROMPT, ...expected.slice(0, index)]);
      const order = should.map((_, token) => token).sort((a, b) => should[b]! - should[a]!);
      const rows = await page.locator("#bars li").all();
      assert.equal(rows.length, 10);
      for (const [i, row] of rows.entries()) {
        const [token, probability] = [await row.getAttribute("data-token"), await row.getAttribute("data-probability")];
        // float32 in two programs; the probabilities are far more apart than this, or their order could differ
        assert.ok(Math.abs(Number(probability) - should[Number(token)]!) < 1e-4, `row ${i}, token ${token}`);
        assert.equal(Number(token), order[i]);
      }
      assert.equal(await page.locator("#bars .chosen").getAttribute("data-token"), String(expected[index]));
    }
    await page.press("#tokens", "ArrowRight");
    await page.getByText("Token 17 of 20").waitFor();
  },
);

test("a seed draws what it draws in Node, as sample.ts does", inBrowser, async () => {
  const options = { temperature: 1.5, top_k: 12, max_new_tokens: 25, seed: 7 };
  const tokens = await expectedTokens(model, [0], options);
  const page = await openPage();
  assert.equal(await generated(page, { prompt: "", ...options }), tokenizer.decode([0, ...tokens]));
  const likeliest = await expectedTokens(model, [0], { ...options, top_k: 1 });
  assert.equal(await generated(page, { top_k: 1 }), tokenizer.decode([0, ...likeliest]));
});

test("WebGPU writes the same", inBrowser, async (t) => {
  const options = { ...GREEDY, max_new_tokens: 6 };
  const page = await openPage(`${url}?backend=webgpu`);
  if ((await page.textContent("#error")) === "no WebGPU in this browser") return t.skip("this Chromium has no WebGPU");
  assert.match((await page.textContent("#backend"))!, /WebGPU/);
  const expected = await expectedTokens(model, PROMPT, options);
  assert.equal(await generated(page, { prompt: "a é🙂", ...options }), tokenizer.decode([...PROMPT, ...expected]));
});

test("GPT-2's tokens: characters of several tokens are whole", inBrowser, async () => {
  const [other, address] = await serve("--out_dir=gpt2-like");
  try {
    const options = { temperature: 1, top_k: 0, max_new_tokens: 60, seed: 3 };
    const prompt = gpt2Tokenizer.encode("🙂 b");
    const text = gpt2Tokenizer.decode([...prompt, ...(await expectedTokens(gpt2, prompt, options))]);
    assert.match(text.slice(4), /\p{Extended_Pictographic}|é|漢|\uFFFD/u, "a text that tests something");
    assert.equal(await generated(await openPage(address), { prompt: "🙂 b", ...options }), text);
  } finally {
    other.child.kill("SIGINT");
    await other.ended;
  }
});

test("Stop ends the text where it is; then another can be had", inBrowser, async () => {
  const page = await openPage();
  await page.fill("#max_new_tokens", "1000000");
  await page.click("#generate");
  await page.waitForSelector('[data-index="10"]');
  await page.click("#stop");
  await page.waitForSelector("#generate:enabled");
  const count = await page.locator("#tokens span").count();
  assert.ok(count > 10);
  assert.match((await page.textContent("#speed"))!, new RegExp(`^${count} tokens, `));
  assert.equal([...(await generated(page, { prompt: "abc", max_new_tokens: 4 }))].length, 7);
});

test("a mistake is one line on the page", inBrowser, async () => {
  const page = await openPage();
  const before = complaints.length;
  await page.fill("#prompt", "a?");
  await page.click("#generate");
  await page.getByText('no token for the character "?" (U+003F)').waitFor();
  await page.waitForSelector("#generate:enabled");
  assert.equal([...(await generated(page, { prompt: "a", max_new_tokens: 4 }))].length, 5);
  const [own] = complaints.splice(before, 1);
  assert.match(own!, /status of 400/); // the browser's line about the server's answer
});

test("no page complained or asked another server", inBrowser, () => assert.deepEqual(complaints, []));

// ---- without a browser -------------------------------------------------------------------------------------------

function status(path: string, options: { method?: string; headers?: Record<string, string>; body?: string } = {}) {
  const { method = "GET", headers = {}, body } = options;
  return new Promise<number>((done, fail) => {
    const length: Record<string, string> =
      body === undefined ? {} : { "Content-Length": String(Buffer.byteLength(body)) };
    const sent = request(new URL(path, url), { method, headers: { ...length, ...headers } }, (response) => {
      response.resume();
      response.on("end", () => done(response.statusCode!));
    });
    sent.on("error", fail);
    sent.end(body);
  });
}

test("other names, origins, paths and methods are refused", async () => {
  const { port } = new URL(url);
  assert.equal(await status("/"), 200);
  assert.equal(await status("/", { headers: { Host: `localhost:${port}` } }), 200);
  assert.equal(await status("/", { headers: { Host: `evil.example:${port}` } }), 403);
  assert.equal(await status("/model.onnx", { headers: { Origin: "http://evil.example" } }), 403);
  assert.equal(await status("/../package.json"), 404);
  assert.equal(await status("/ort/../package.json"), 404);
  assert.equal(await status("/constructor"), 404);
  assert.equal(await status("/", { method: "POST", body: "x" }), 405);
  assert.equal(await status("/encode"), 405);
  assert.equal(await status("/encode", { method: "POST", body: '{"text":"ab"}' }), 200);
  assert.equal(await status("/encode", { method: "POST", body: '{"text":1}' }), 400);
  assert.equal(await status("/encode", { method: "POST", body: "{" }), 400);
  assert.equal(await status("/encode", { method: "POST", body: " ".repeat(8e6 + 1) }), 413);
});

test("only this machine's own address is listened at", async () => {
  const refused = await new Promise((done) => {
    const socket = connect({ host: "127.0.0.2", port: Number(new URL(url).port), timeout: 2000 });
    socket.on("connect", () => done(false));
    for (const event of ["error", "timeout"]) socket.on(event, () => done(true));
    socket.on("close", () => socket.destroy());
  });
  assert.ok(refused);
});

test("one line, and no folder is left: a port that is taken, no checkpoint, tokens without a text", async () => {
  const before = readdirSync(TEMPORARY);
  const { port } = new URL(url);
  const refuse = (...flags: string[]) => run("tools/serve.ts", ["--open=false", ...flags], { cwd: FOLDER, env });
  assertRefused(await refuse(`--port=${port}`), new RegExp(`port ${port} is taken; leave --port out for a free one`));
  assertRefused(await refuse("--out_dir=nowhere"), /no checkpoint in nowhere/);
  assertRefused(
    await refuse("--out_dir=numbers"),
    /the page needs a text, .* npx tsx sample\.ts --init_from=numbers --start="1 2 3"$/m,
  );
  assertRefused(await refuse("--port=70000"), /port must be an integer from 0 to 65535/);
  assert.deepEqual(readdirSync(TEMPORARY), before);
});

test("Ctrl-C ends it and removes the exported model", async () => {
  const ours = (name: string) => name.startsWith("nanogpt-serve-");
  assert.equal(readdirSync(TEMPORARY).filter(ours).length, 1);
  server.child.kill("SIGINT");
  assert.equal((await server.ended).code, 0);
  assert.deepEqual(readdirSync(TEMPORARY).filter(ours), []);
});
