// What sampling begins with where no prompt was given can be encoded, whatever the vocabulary.

import assert from "node:assert/strict";
import { test } from "node:test";
import { defaultStart } from "../../../lib/decoding/start.ts";
import { createTokenizer } from "../../../lib/text/tokenizer.ts";
import { characterMeta } from "../text/support.ts";

test("a line break where there is one, else what else ends a line or a word, else any token", async () => {
  for (const [vocabulary, start] of [
    ["\n abc", "\n"],
    ["\r abc", "\r"],
    [" .abc", " "],
    ["abc", "a"],
    ["🙂é", "🙂"],
  ] as const) {
    const tokenizer = await createTokenizer(characterMeta(vocabulary));
    assert.equal(defaultStart(tokenizer), start);
    assert.equal(tokenizer.encode(defaultStart(tokenizer)).length, 1);
  }
  assert.equal(defaultStart(await createTokenizer({ kind: "gpt2", vocab_size: 50_257 })), "\n");
});
