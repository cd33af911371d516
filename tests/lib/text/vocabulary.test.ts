// lib/text/vocabulary.ts: what differs between two vocabularies, and which tokens mean the same in both.

import assert from "node:assert/strict";
import test from "node:test";

import { GPT2_META, type Meta } from "../../../lib/text/meta.ts";
import { difference, knownTokens } from "../../../lib/text/vocabulary.ts";
import { characterMeta, userError } from "./support.ts";

const ids = (vocab_size: number): Meta => ({ kind: "ids", vocab_size });

test("what differs: which characters and how many, their numbers, or the kind of token", () => {
  const cases: [model: Meta, dataset: Meta, string | undefined][] = [
    [characterMeta("\n abc"), characterMeta("\n abc"), undefined],
    [GPT2_META, { ...GPT2_META, train_tokens: 5 }, undefined],
    [ids(300), ids(300), undefined],
    [ids(3), characterMeta("abc"), undefined], // now they have a text
    [
      characterMeta("\nab"),
      characterMeta("\nbcd"),
      "2 of the dataset's 4 characters are unknown to the model (cd), and 1 of the model's 3 aren't in the dataset (a)",
    ],
    [characterMeta("abc"), characterMeta("ab"), "1 of the model's 3 aren't in the dataset (c)"],
    [characterMeta("ab"), characterMeta("a\nb"), "1 of the dataset's 3 characters are unknown to the model (\\n)"],
    [
      characterMeta("abc"),
      characterMeta("acb"),
      "the characters are the same, but 2 of the 3 have other numbers: c is 1 in the dataset and 2 in the model",
    ],
    [GPT2_META, characterMeta("ab"), "the model knows GPT-2's 50,257 tokens, the dataset has 2 characters"],
    [characterMeta("ab"), ids(2), "the model knows 2 characters, the dataset has 2 tokens without a text"],
    [ids(7), ids(9), "the model knows 7 tokens without a text, the dataset has 9 tokens without a text"],
    [ids(7), GPT2_META, "the model knows 7 tokens without a text, the dataset has GPT-2's 50,257 tokens"],
  ];
  for (const [model, dataset, expected] of cases) assert.equal(difference(model, dataset), expected);
});

test("the same tokens: by their character, GPT-2's that are one character, numbers by themselves", async () => {
  assert.deepEqual([...(await knownTokens(characterMeta("\nabc"), characterMeta("\ncxa")))], [0, 3, -1, 1]);
  assert.deepEqual([...(await knownTokens(ids(3), ids(5)))], [0, 1, 2, -1, -1]);
  assert.deepEqual([...(await knownTokens(ids(5), ids(3)))], [0, 1, 2]);
  // tiktoken's numbers of "\n", "a" and "\u00e9"; a smiling face is several of GPT-2's tokens
  assert.deepEqual([...(await knownTokens(GPT2_META, characterMeta("\na\u00e9\u{1F642}")))], [198, 64, 2634, -1]);
  const all = await knownTokens(characterMeta("\na\u{1F642}"), GPT2_META);
  assert.deepEqual([all.length, all[198], all[64], all.filter((id) => id >= 0).length], [50_257, 0, 1, 2]);
  for (const [model, dataset] of [
    [ids(3), characterMeta("abcd")],
    [characterMeta("ab"), ids(3)],
    [GPT2_META, ids(3)],
  ] as const) {
    await assert.rejects(knownTokens(model, dataset), userError(/which of them are the same isn't known$/));
  }
});
