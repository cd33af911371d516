// What several tests of data/ need: a folder that goes away, a server on this machine, a vocabulary, one-line errors,
// chance.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type RequestListener } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { UserError } from "../../../lib/common/errors.ts";
import type { CharacterMeta } from "../../../lib/text/meta.ts";

/** A new folder, removed when the test ends. */
export function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "nanogpt-test-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A server on 127.0.0.1 for the length of the test; returns its address. */
export async function serve(t: TestContext, listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  assert.ok(address !== null && typeof address === "object");
  return `http://127.0.0.1:${address.port}`;
}

/** A vocabulary of these characters, in their order. */
export function characterMeta(characters: string): CharacterMeta {
  const itos = [...characters];
  return { kind: "char", vocab_size: itos.length, itos, stoi: Object.fromEntries(itos.map((c, id) => [c, id])) };
}

/** For assert.throws and assert.rejects: a UserError of one line that matches all `patterns`. */
export function userError(...patterns: RegExp[]): (error: unknown) => true {
  return (error) => {
    assert.ok(error instanceof UserError, `not a UserError: ${error}`);
    assert.ok(!error.message.includes("\n"), `more than one line: ${error.message}`);
    for (const pattern of patterns) assert.match(error.message, pattern);
    return true;
  };
}

/** The same random numbers in [0, 1) for the same seed (mulberry32). */
export function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A text of `length` code points from all over Unicode, surrogates left out. */
export function randomText(random: () => number, length: number): string {
  const ranges = [0x80, 0x80, 0x250, 0x3000, 0xd800, 0x110000]; // mostly the small ones
  let text = "";
  for (let i = 0; i < length; i++) {
    const limit = ranges[Math.floor(random() * ranges.length)] ?? 0x80;
    const point = Math.floor(random() * limit);
    text += String.fromCodePoint(point >= 0xd800 && point < 0xe000 ? point - 0x800 : point);
  }
  return text;
}
