// How samples go on: which logits each token is drawn from, when a sample ends, and that nothing beside it matters.

import assert from "node:assert/strict";
import test from "node:test";
import { keyOf, uniform } from "../../../lib/common/rng.ts";
import {
  batchSize,
  continueTokens,
  type GenerateOptions,
  generate,
  generateTexts,
  type Sample,
  type TextOptions,
} from "../../../lib/decoding/generate.ts";
import { createPlainDecoder } from "../../../lib/decoding/plain_decoder.ts";
import { createTokenizer } from "../../../lib/text/tokenizer.ts";
import { assertClose, shaken } from "../../support.ts";
import { characterMeta, userError } from "../text/support.ts";
import { scriptedDecoder } from "./support.ts";

const seeded = (seed: number) => (sample: number, step: number) => uniform(keyOf(seed, "generate", sample), step);
const model = shaken({});

test("greedy: each token is the likeliest after those before; the window slides past block_size", async () => {
  const decoder = createPlainDecoder(model);
  const expected = [3, 7];
  for (let i = 0; i < 10; i++) {
    const last = await createPlainDecoder(model).start(expected.slice(-6), 1);
    expected.push(last.indexOf(Math.max(...last)));
  }
  const greedy = { max_new_tokens: 10, random: seeded(1) };
  for (const options of [{ top_k: 1 }, { temperature: 0 }, { temperature: 1e-9 }]) {
    assert.deepEqual(await continueTokens(decoder, [3, 7], { ...greedy, ...options }), expected.slice(2));
  }
  const long = [0, 1, 2, 3, 4, 5, 6, 7, 8];
  assert.deepEqual(
    await continueTokens(decoder, long, { ...greedy, top_k: 1 }),
    await continueTokens(decoder, long.slice(-6), { ...greedy, top_k: 1 }),
    "only the last block_size tokens of a prompt count",
  );
});

test("a prompt of tokens that the model doesn't know is one line", async () => {
  const decoder = createPlainDecoder(model);
  const options = { max_new_tokens: 1, random: seeded(1) };
  for (const token of [model.config.vocab_size, -1, 0.5]) {
    await assert.rejects(
      continueTokens(decoder, [1, 2, token], options),
      userError(new RegExp(`index 2 is ${token}, and the model knows 11, 0 to 10; encode`)),
    );
  }
});

test("each token goes back in; nothing is computed after the last", async () => {
  const { decoder, contexts } = scriptedDecoder(5, (tokens) =>
    Array.from({ length: 5 }, (_, token) => (token === tokens.length - 1 ? 1 : 0)),
  );
  const options = { max_new_tokens: 3, random: seeded(1), top_k: 1 };
  assert.deepEqual(await continueTokens(decoder, [4, 0], options), [1, 2, 3]);
  assert.deepEqual(contexts, [
    [4, 0],
    [4, 0, 1],
    [4, 0, 1, 2],
  ]);
  contexts.length = 0;
  assert.deepEqual(await continueTokens(decoder, [4, 0], { ...options, max_new_tokens: 0 }), []);
  assert.deepEqual(contexts, []);
});

test("the same random numbers give the same tokens, others give others", async () => {
  const run = (seed: number) =>
    continueTokens(createPlainDecoder(model), [1, 2], { max_new_tokens: 12, random: seeded(seed) });
  assert.deepEqual(await run(1), await run(1));
  assert.notDeepEqual(await run(1), await run(2));
});

async function tokensOf(numbers: number[], options: GenerateOptions, ending = new Map<number, number>()) {
  const samples = new Set(numbers);
  const tokens = new Map(numbers.map((sample) => [sample, [] as number[]]));
  for await (const drawn of generate(createPlainDecoder(model), [1, 2], samples, options)) {
    for (const { sample, token } of drawn) {
      tokens.get(sample)!.push(token);
      if (tokens.get(sample)!.length === ending.get(sample)) samples.delete(sample);
    }
  }
  return Object.fromEntries(tokens);
}

test("a sample doesn't depend on those beside it, nor on when they end", async () => {
  const options = { max_new_tokens: 12, random: seeded(3), temperature: 1.5, repetition_penalty: 1.3 };
  const together = await tokensOf([0, 1, 2, 3], options);
  assert.equal(new Set(Object.values(together).map(String)).size, 4);
  for (const sample of [0, 1, 2, 3]) {
    assert.deepEqual((await tokensOf([sample], options))[sample], together[sample]);
  }
  assert.deepEqual(await tokensOf([3, 1], options), { 1: together[1], 3: together[3] });
  const cut = { ...together, 0: together[0]!.slice(0, 1), 2: together[2]!.slice(0, 5) };
  const ending = new Map([
    [0, 1],
    [2, 5],
  ]);
  assert.deepEqual(await tokensOf([0, 1, 2, 3], options, ending), cut);
});

test("it ends when all samples have", async () => {
  const { decoder, contexts } = scriptedDecoder(2, () => [0, 1]);
  const samples = new Set([0, 1]);
  let steps = 0;
  for await (const drawn of generate(decoder, [0], samples, { max_new_tokens: 100, random: seeded(1) })) {
    steps++;
    for (const { sample } of drawn) if (steps === 3 - sample) samples.delete(sample);
  }
  assert.equal(steps, 3);
  assert.equal(contexts.length, 3 * 2);
});

test("the repetition penalty counts the prompt and what was drawn, for each sample its own", async () => {
  // the penalty makes any token that was there the least likely
  const { decoder } = scriptedDecoder(5, () => [5, 4, 3, 2, 1]);
  const options = { max_new_tokens: 4, random: seeded(1), temperature: 0, repetition_penalty: 100 };
  assert.deepEqual(await continueTokens(decoder, [1, 1], options), [0, 2, 3, 4]);
  assert.deepEqual(await continueTokens(decoder, [1, 1], { ...options, repetition_penalty: 1 }), [0, 0, 0, 0]);
});

test("log-probabilities are the model's own", async () => {
  const { decoder } = scriptedDecoder(3, () => [0, 1, 2]);
  const options = { max_new_tokens: 1, random: () => 0.99, temperature: 7, top_k: 2 };
  for await (const [drawn] of generate(decoder, [0], new Set([0]), options)) {
    assert.equal(drawn!.token, 1);
    assertClose([drawn!.logprob], [-Math.log(1 + Math.E + 1 / Math.E)], { atol: 1e-12, label: "logprob" });
  }
});

// ---- texts -------------------------------------------------------------------------------------------------------

const letters = [..."abcdefghijk"];
const tokenizer = await createTokenizer(characterMeta("abcdefghijk"));

/** Writes the alphabet on from the prompt's last letter. */
const alphabet = () =>
  scriptedDecoder(11, (tokens) => letters.map((_, token) => (token === (tokens.at(-1)! + 1) % 11 ? 9 : 0))).decoder;

async function texts(options: Partial<TextOptions>, samples = [0]): Promise<{ last: Sample[]; grown: string[] }> {
  const grown: string[] = [];
  let last: readonly Sample[] = [];
  const all = { max_new_tokens: 6, random: seeded(1), temperature: 0, ...options };
  for await (last of generateTexts(alphabet(), tokenizer, [0], samples, all)) grown.push(last[0]!.text);
  return { last: [...last], grown };
}

test("a text grows token by token and ends by its length", async () => {
  const { last, grown } = await texts({});
  assert.deepEqual(grown, ["b", "bc", "bcd", "bcde", "bcdef", "bcdefg"]);
  const [{ logprobs, ...rest }] = last as [Sample];
  assert.deepEqual(rest, { sample: 0, text: "bcdefg", tokens: [1, 2, 3, 4, 5, 6], finish: "length" });
  assertClose(
    logprobs,
    logprobs.map(() => -Math.log(1 + 10 * Math.exp(-9))),
    { atol: 1e-9, label: "logprobs" },
  );
});

test("a stop string ends it; tokens and log-probabilities are of all that was drawn", async () => {
  const { last, grown } = await texts({ stop: ["x", "de"] });
  assert.deepEqual(grown, ["b", "bc", "bc", "bc"]);
  assert.deepEqual(last[0]!.tokens, [1, 2, 3, 4]);
  assert.equal(last[0]!.logprobs.length, 4);
  assert.equal(last[0]!.finish, "stop");
});

test("what was held back belongs to a text that ends by its length", async () => {
  const { last, grown } = await texts({ stop: ["fgh"] });
  assert.deepEqual(grown.slice(-2), ["bcde", "bcdefg"]);
  assert.equal(last[0]!.finish, "length");
});

test("a stop string of the last token is a stop", async () => {
  const { last } = await texts({ stop: ["g"] });
  assert.deepEqual([last[0]!.text, last[0]!.finish], ["bcdef", "stop"]);
});

test("an interrupt ends all samples that run", async () => {
  let asked = 0;
  const { last } = await texts({ interrupted: () => ++asked === 3, stop: ["def"] }, [4, 5]);
  assert.deepEqual(
    last.map(({ sample, text, finish }) => [sample, text, finish]),
    [4, 5].map((sample) => [sample, "bcd", "interrupt"]),
  );
});

test("batches: all that fit into 1 GiB of keys and values, 16 at most, one at least", () => {
  const size = (n_layer: number, n_embd: number, block_size: number) =>
    batchSize({ ...model.config, n_layer, n_embd, block_size });
  assert.equal(size(4, 128, 64), 16);
  assert.equal(size(12, 768, 1024), 14); // GPT-2: 72 MiB each
  assert.equal(size(48, 1600, 1024), 1); // gpt2-xl: 600 MiB
  assert.equal(size(100, 4096, 8192), 1);
});
