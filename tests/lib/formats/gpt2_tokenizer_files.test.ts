// lib/formats/gpt2_tokenizer_files.ts: the files' shape, and encoding by vocab.json and merges.txt alone, as their readers do.
// The readers themselves are asked in export_python.test.ts.

import assert from "node:assert/strict";
import test from "node:test";
import { gpt2TokenizerFiles } from "../../../lib/formats/gpt2_tokenizer_files.ts";
import { GPT2_META } from "../../../lib/text/meta.ts";
import { createTokenizer } from "../../../lib/text/tokenizer.ts";

const files = gpt2TokenizerFiles(1024);
const vocab: Record<string, number> = JSON.parse(files["vocab.json"]!);
const merges = files["merges.txt"]!.trimEnd().split("\n").slice(1);

test("the numbers are GPT-2's: 50,257 tokens, 50,000 merges, the first and last as published", () => {
  assert.equal(Object.keys(vocab).length, 50_257);
  assert.equal(merges.length, 50_000);
  assert.equal(files["merges.txt"]!.split("\n")[0], "#version: 0.2");
  assert.deepEqual(merges.slice(0, 4), ["Ġ t", "Ġ a", "h e", "i n"]);
  assert.equal(vocab["!"], 0);
  assert.equal(vocab.Ġthe, 262);
  assert.equal(vocab.Ċ, 198);
  assert.equal(vocab["<|endoftext|>"], 50_256);
});

test("every merge joins two tokens into the next one", () => {
  for (const [i, merge] of merges.entries()) {
    const parts = merge.split(" ");
    assert.equal(parts.length, 2, merge);
    assert.ok(
      parts.every((part) => vocab[part]! < 256 + i),
      merge,
    );
    assert.equal(vocab[parts.join("")], 256 + i);
  }
});

test("merging by the list, the earliest merge first, gives our tokens", async () => {
  const { encode } = await createTokenizer(GPT2_META);
  const order = new Map(merges.map((merge, i) => [merge, i]));
  for (const word of [" antidisestablishmentarianism", "xyzzyqwrt", "........!!!!", " Constantinople"]) {
    let parts = [...word.replace(" ", "Ġ")]; // ASCII's visible characters stand for themselves
    for (;;) {
      const ranks = parts.slice(1).map((part, i) => order.get(`${parts[i]} ${part}`) ?? Number.POSITIVE_INFINITY);
      const lowest = Math.min(...ranks);
      if (!Number.isFinite(lowest)) break;
      const at = ranks.indexOf(lowest);
      parts = [...parts.slice(0, at), parts[at]! + parts[at + 1]!, ...parts.slice(at + 2)];
    }
    assert.deepEqual(
      parts.map((part) => vocab[part]),
      encode(word),
      word,
    );
  }
});

test("tokenizer.json has the same vocabulary and merges; tokenizer_config.json names the class", () => {
  const { model, added_tokens } = JSON.parse(files["tokenizer.json"]!);
  assert.deepEqual(model.vocab, vocab);
  assert.deepEqual(model.merges, merges);
  assert.equal(added_tokens[0].id, 50_256);
  const { tokenizer_class, model_max_length } = JSON.parse(files["tokenizer_config.json"]!);
  assert.deepEqual([tokenizer_class, model_max_length], ["GPT2Tokenizer", 1024]);
});
