// Stop strings, in every way to cut a text into pieces.

import assert from "node:assert/strict";
import test from "node:test";
import { keyOf, uniform } from "../../../lib/common/rng.ts";
import { StopFilter } from "../../../lib/decoding/stop.ts";
import { createTokenizer } from "../../../lib/text/tokenizer.ts";

/** The obvious way: look at the whole text after each character. */
function cut(text: string, stops: readonly string[]): { text: string; stopped: boolean } {
  for (let length = 1; length <= text.length; length++) {
    const ends = stops.filter((stop) => text.slice(0, length).endsWith(stop)).map((stop) => stop.length);
    if (ends.length > 0) return { text: text.slice(0, length - Math.max(...ends)), stopped: true };
  }
  return { text, stopped: false };
}

function passed(pieces: readonly string[], stops: readonly string[]): { text: string; stopped: boolean } {
  const filter = new StopFilter(stops);
  let text = "";
  for (const piece of pieces) text += filter.push(piece);
  return { text: text + filter.end(), stopped: filter.stopped };
}

test("random texts of few letters, stop strings and pieces", () => {
  let count = 0;
  const next = (n: number) => Math.floor(uniform(keyOf("stop"), count++) * n);
  const word = (length: number) => Array.from({ length }, () => "ab\n"[next(3)]).join("");
  for (let round = 0; round < 3000; round++) {
    const text = word(next(14));
    const stops = Array.from({ length: next(4) }, () => word(1 + next(4)));
    const pieces: string[] = [];
    for (let at = 0; at < text.length; ) {
      const length = next(5); // 0 too: a token may be no more than part of a character
      pieces.push(text.slice(at, at + length));
      at += length;
    }
    assert.deepEqual(passed(pieces, stops), cut(text, stops), JSON.stringify({ pieces, stops }));
  }
});

test("what may be a beginning is held back, and no more than that", () => {
  const filter = new StopFilter(["END", "\n\n"]);
  assert.deepEqual(
    ["a", "bE", "N", "xE", "NE", "\n", "c"].map((piece) => filter.push(piece)),
    ["a", "b", "", "ENx", "EN", "E", "\nc"],
  );
  assert.equal(filter.push("ENDmore"), "");
  assert.equal(filter.stopped, true);
  assert.equal(filter.push("more") + filter.end(), "");
  const unfinished = new StopFilter(["END"]);
  assert.equal(unfinished.push("xEN"), "x");
  assert.equal(unfinished.end(), "EN");
  assert.equal(unfinished.stopped, false);
});

test("tokens that end in mid-character", async () => {
  const tokenizer = await createTokenizer({ kind: "gpt2", vocab_size: 50_257 });
  const text = "so 🙂🙃 on"; // three tokens for each of the two, which begin with the same bytes
  const tokens = tokenizer.encode(text);
  assert.ok(tokens.some((token) => tokenizer.decode([token]).includes("\uFFFD")));
  for (const stop of ["🙃", "🙂🙃", " on", "🙄"]) {
    const decoder = tokenizer.decoder();
    const pieces = [...tokens.map((token) => decoder.push(token)), decoder.end()];
    assert.deepEqual(passed(pieces, [stop]), cut(text, [stop]), stop);
  }
});

test("the text of a special token stops as well", async () => {
  const tokenizer = await createTokenizer({ kind: "gpt2", vocab_size: 50_257 });
  const decoder = tokenizer.decoder();
  const pieces = [64, 50_256, 65].map((token) => decoder.push(token));
  assert.deepEqual(passed(pieces, ["<|endoftext|>"]), { text: "a", stopped: true });
});
