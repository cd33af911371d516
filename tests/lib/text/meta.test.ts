// lib/text/meta.ts: what a dataset's tokens mean, where nothing but their number is said, too. Characters and what is wrong with a
// meta.json are tested with the tokenizers.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type TestContext } from "node:test";

import { checkMeta, GPT2_META, GPT2_PADDED, readMeta, tokensOf } from "../../../lib/text/meta.ts";
import { temporaryFolder, userError } from "./support.ts";

function folderWith(t: TestContext, meta?: unknown): string {
  const folder = temporaryFolder(t);
  if (meta !== undefined) writeFileSync(join(folder, "meta.json"), JSON.stringify(meta));
  return folder;
}

const readTokens = (folder: string, vocab_size: number, log: (line: string) => void) =>
  tokensOf(readMeta(folder), folder, vocab_size, log);

test("a vocab_size alone is tokens without a text; with characters and no kind they are characters", (t) => {
  const lines: string[] = [];
  const read = (meta: unknown) => readTokens(folderWith(t, meta), GPT2_PADDED, (line) => lines.push(line));
  assert.deepEqual(read({ vocab_size: 300 }), { kind: "ids", vocab_size: 300 });
  assert.deepEqual(read({ vocab_size: 300, train_tokens: 7 }), { kind: "ids", vocab_size: 300, train_tokens: 7 });
  const characters = { vocab_size: 2, itos: ["a", "b"], stoi: { a: 0, b: 1 } };
  assert.deepEqual(read(characters), { kind: "char", ...characters });
  assert.match(lines[0]!, /^found vocab_size = 300 \(inside .*meta\.json\)$/);
  for (const vocab_size of [0, 65_537, "300"]) {
    assert.throws(() => read({ vocab_size }), userError(/meta\.json has a wrong field, vocab_size/));
  }
});

test("without a meta.json --vocab_size says how many there are; GPT-2's numbers mean GPT-2's tokens", (t) => {
  const folder = folderWith(t);
  const lines: string[] = [];
  const read = (vocab_size: number) => readTokens(folder, vocab_size, (line) => lines.push(line));
  assert.deepEqual(read(300), { kind: "ids", vocab_size: 300 });
  assert.equal(read(GPT2_PADDED), undefined);
  assert.equal(read(GPT2_META.vocab_size), undefined);
  assert.match(lines[0]!, /^no .*meta\.json: vocab_size is 300, of tokens without a text$/);
  assert.match(lines[1]!, /^no .*meta\.json: vocab_size is 50304, for GPT-2's tokens$/);
});

test("pairs end with one of the vocabulary's tokens, and consist of texts", () => {
  const pairs = { length: 8, end: 2 };
  const characters = { kind: "char", vocab_size: 2, itos: ["a", "b"], stoi: { a: 0, b: 1 } };
  for (const [meta, message] of [
    [{ ...characters, pairs }, /pairs\.end is 2, but vocab_size 2; mend it$/],
    [{ vocab_size: 9, pairs }, /pairs consist of texts, and its tokens have none; mend it$/],
  ] as const) {
    assert.throws(() => checkMeta(meta, "meta.json", "mend it"), userError(message));
  }
});
