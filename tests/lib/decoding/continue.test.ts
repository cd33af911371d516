// What each architecture makes of a prompt: an encoder's guesses, and what is written for a source with an end.

import assert from "node:assert/strict";
import test from "node:test";
import { keyOf, uniform } from "../../../lib/common/rng.ts";
import { checkPromptFits, createContinuer } from "../../../lib/decoding/continue.ts";
import { createGuesser, encodeMasked, fillTexts } from "../../../lib/decoding/fill_masks.ts";
import type { Sample, TextOptions } from "../../../lib/decoding/generate.ts";
import { createPlainDecoder } from "../../../lib/decoding/plain_decoder.ts";
import type { Architecture } from "../../../lib/nn/choices.ts";
import { GPT2_META } from "../../../lib/text/meta.ts";
import type { Tokenizer } from "../../../lib/text/tokenizer.ts";
import { compiled, eager, shaken } from "../../support.ts";

/** Letters a to j are the tokens 0 to 9, and 10 a line's end. */
const LETTERS = [..."abcdefghij", "\n"];
const tokenizer: Tokenizer = {
  meta: GPT2_META, // nobody asks
  vocabSize: LETTERS.length,
  encode: (text) => [...text].map((letter) => LETTERS.indexOf(letter)),
  decode: (ids) => [...ids].map((id) => LETTERS[id]).join(""),
  decoder: () => ({ push: (id) => LETTERS[id]!, end: () => "" }),
};
const options: TextOptions = {
  max_new_tokens: 50,
  temperature: 3,
  random: (sample, step) => uniform(keyOf(sample), step),
};

async function all(texts: AsyncIterable<readonly Sample[]>): Promise<readonly Sample[]> {
  let last: readonly Sample[] = [];
  for await (last of texts);
  return last;
}

test("a prompt with masks: -1 for each", () => {
  assert.deepEqual(encodeMasked("ab[MASK]c[MASK][MASK]", tokenizer), [0, 1, -1, 2, -1, -1]);
});

test("masks are guessed from the most certain on, each seeing those before it, and never as the mask", async () => {
  const V = 12; // the mask is the last, and the likeliest of all: it can't be guessed
  const asked: number[][] = [];
  const guess = async (ids: readonly number[]) => {
    asked.push([...ids]);
    const logits = new Float32Array(ids.length * V);
    for (const place of ids.keys()) {
      logits[place * V + 11] = 50;
      logits[place * V + place + 1] = place === 3 ? 9 : 5; // place p is token p + 1; of place 3 it is surer
    }
    return logits;
  };
  const greedy = { ...options, temperature: 0, vocab_size: V };
  const [sample] = await all(fillTexts(guess, tokenizer, [0, -1, 2, -1], [0], greedy));
  assert.deepEqual(asked, [
    [0, 11, 2, 11],
    [0, 11, 2, 4],
  ]);
  assert.equal(sample!.text, "acce");
  assert.equal(sample!.finish, "stop");
  assert.equal(sample!.logprobs.length, 2);
  assert.ok(sample!.logprobs[1]! > sample!.logprobs[0]!);
});

test("an encoder's guesses: compiled as eager", async () => {
  const model = shaken({ architecture: "encoder", vocab_size: 12, block_size: 9 });
  const ids = encodeMasked("a[MASK]cd[MASK][MASK]g", tokenizer);
  const [a, b] = [await createGuesser(compiled, model, {}), await createGuesser(eager, model)];
  const texts = await Promise.all(
    [a, b].map(({ run }) => all(fillTexts(run, tokenizer, ids, [0, 1, 2], { ...options, vocab_size: 12 }))),
  );
  assert.deepEqual(
    texts[0]!.map(({ text }) => text),
    texts[1]!.map(({ text }) => text),
  );
  assert.ok(new Set(texts[0]!.map(({ text }) => text)).size > 1, "other numbers, other guesses");
  await a.dispose();
});

test("pairs: the text begins with the end token and stops before the next one, or where there is no more room", async () => {
  const pairs = { length: 9, end: 10 };
  const model = shaken({ architecture: "encoder_decoder", vocab_size: 11, block_size: 9 });
  const continueTexts = await createContinuer(compiled, model, tokenizer, { frozen: {}, pairs });
  const samples = await all(continueTexts([1, 2, 3], [0, 1, 2, 3, 4, 5, 6, 7], options));
  await continueTexts.dispose();
  const plain = createPlainDecoder(model, pairs.end);
  for (const { tokens, text, finish } of samples) {
    assert.equal(text, tokenizer.decode(tokens.filter((id) => id !== 10)));
    assert.equal(finish, tokens.at(-1) === 10 ? "stop" : "length");
    assert.ok(tokens.length <= 9);
    await plain.start([1, 2, 3], 1);
    for (const token of tokens.slice(0, -1)) await plain.next([token]); // as long as that, it goes on
  }
  assert.deepEqual(new Set(samples.map(({ finish }) => finish)), new Set(["stop", "length"]));
  await assert.rejects(async () => {
    await plain.start([1, 2, 3], 1);
    for (let i = 0; i < 10; i++) await plain.next([1]);
  }, /beyond block_size 9/);
});

test("one line: too long a prompt, no mask, no source", () => {
  const refused = (ids: number[], architecture: Architecture, message: RegExp) => {
    const { config } = shaken({ architecture, block_size: 9 });
    const pairs = architecture === "encoder" ? undefined : { length: 9, end: 10 };
    assert.throws(() => checkPromptFits(ids, config, pairs), { name: "UserError", message });
  };
  refused(Array(10).fill(-1), "encoder", /^--start has 10 tokens, and the model reads 9 at most; shorten it$/);
  refused([1, 2], "encoder", /write \[MASK\] for each in --start$/);
  refused([10], "encoder_decoder", /give one in --start, on one line$/);
});
