// lib/formats/model_vocabulary.ts: how many tokens a new model knows, and on whose tokens weights may be trained.

import assert from "node:assert/strict";
import { test } from "node:test";

import { chooseModel } from "../../../lib/formats/model_settings.ts";
import type { OpenedModel } from "../../../lib/formats/pretrained.ts";
import type { Architecture } from "../../../lib/nn/choices.ts";
import { GPT2_META, GPT2_PADDED, type Meta } from "../../../lib/text/meta.ts";
import { LAYER_CHOICES } from "../../../model.ts";
import { temporaryFolder } from "../../scripts.ts";
import { characterMeta, userError } from "../text/support.ts";

const shape = { n_layer: 1, n_head: 2, n_embd: 8, block_size: 4, bias: false, ffn: "gelu" as const, dropout: 0 };
const settings = {
  ...{ ...LAYER_CHOICES, ...shape, vocab_size: GPT2_PADDED, vocab: "same" },
  ...{ dataset: temporaryFolder(), out_dir: "out" },
};
const modelOf = (tokenizerMeta: Meta | undefined, vocab_size: number, architecture = "decoder") =>
  ({ source: "old run", modelArgs: { ...shape, vocab_size, architecture }, tokenizerMeta }) as unknown as OpenedModel;

/** What is chosen, and what is said. */
async function choose(
  opened: OpenedModel | undefined,
  meta: Meta | undefined,
  {
    resumes = false,
    ...changes
  }: { resumes?: boolean; vocab?: string; vocab_size?: number; architecture?: Architecture } = {},
) {
  const lines: string[] = [];
  const config = { ...settings, ...changes };
  const { modelArgs, rows, tokens } = await chooseModel(config, meta, opened, resumes, (line) => lines.push(line));
  return { vocab_size: modelArgs.vocab_size, rows: rows && [...rows], tokens, lines };
}

test("a new model's vocabulary is the dataset's, and room for an encoder's mask; GPT-2's is padded, or as large as was said", async () => {
  for (const [meta, changes, vocab_size, tokens] of [
    [characterMeta("abc"), {}, 3, 3],
    [characterMeta("abc"), { architecture: "encoder" }, 4, 3],
    [{ kind: "ids", vocab_size: 300 }, { vocab_size: 300 }, 300, 300],
    [undefined, {}, 50_304, 50_304],
    [undefined, { vocab_size: 50_257 }, 50_257, 50_257],
    [undefined, { vocab_size: 50_257, architecture: "encoder" }, 50_258, 50_257],
    [GPT2_META, {}, 50_257, 50_257],
  ] as const) {
    const chosen = await choose(undefined, meta, changes);
    assert.deepEqual([chosen.vocab_size, chosen.tokens], [vocab_size, tokens]);
  }
});

test("weights go on with the tokens that they know; of the padding nothing is in the dataset", async () => {
  for (const resumes of [false, true]) {
    const said = `${resumes ? "Resuming training from" : "Initializing with the weights of"} old run`;
    for (const [known, V, meta, tokens] of [
      [characterMeta("abc"), 3, characterMeta("abc"), 3],
      [GPT2_META, 50_304, GPT2_META, 50_257],
      [GPT2_META, 50_304, undefined, 50_304], // padding may have a meaning where no file says otherwise
      [GPT2_META, 50_257, undefined, 50_257],
      [{ kind: "ids", vocab_size: 9 }, 9, { kind: "ids", vocab_size: 9 }, 9],
    ] as const) {
      const chosen = await choose(modelOf(known, V), meta, { resumes });
      assert.deepEqual(chosen, { vocab_size: V, rows: undefined, tokens, lines: [said] });
    }
  }
});

test("other tokens are refused with what differs and what to do, whatever the weights are", async () => {
  const init = /old run: .*; take the dataset that it was trained on, or add --vocab=extend/;
  const cases: [Meta | undefined, number, Meta | undefined, RegExp][] = [
    [
      characterMeta("abc"),
      3,
      characterMeta("abd"),
      /1 of the dataset's 3 characters are unknown to the model \(d\), and 1 of the model's/,
    ],
    [characterMeta("abc"), 3, characterMeta("acb"), /other numbers: c is 1 in the dataset and 2 in the model/],
    [GPT2_META, 50_304, characterMeta("abc"), /the model knows GPT-2's 50,257 tokens, the dataset has 3 characters/],
    [characterMeta("abc"), 50_304, GPT2_META, /the model knows 3 characters, the dataset has GPT-2's 50,257 tokens/],
    [characterMeta("abc"), 50_304, undefined, /has no meta\.json: for other tokens than GPT-2's say --vocab_size=N/],
    [{ kind: "ids", vocab_size: 9 }, 9, { kind: "ids", vocab_size: 8 }, /the model knows 9 tokens .* has 8 tokens/],
  ];
  for (const [known, V, meta, message] of cases) {
    await assert.rejects(choose(modelOf(known, V), meta), userError(message, init));
    for (const vocab of ["same", "extend"]) {
      // a run's own settings may say "extend", as it was begun so
      await assert.rejects(
        choose(modelOf(known, V), meta, { vocab, resumes: true }),
        userError(
          message,
          /a resumed run keeps its own tokens.*npx tsx train\.ts '--init_from=old run' .*--vocab=extend$/,
        ),
      );
    }
  }
});

test("where only one of both says what its tokens mean, nothing can be extended, and nothing else is advised", async () => {
  for (const [known, V, meta] of [
    [characterMeta("abc"), 3, { kind: "ids", vocab_size: 3 }],
    [{ kind: "ids", vocab_size: 9 }, 9, characterMeta("abc")],
  ] as const) {
    for (const changes of [{}, { resumes: true }, { vocab: "extend" }]) {
      await assert.rejects(
        choose(modelOf(known, V), meta, changes),
        userError(/ without a text.*; which of them are the same isn't known: take .*, or --init_from=scratch$/),
      );
    }
  }
});

test("a run on pairs is resumed on the same kind of pairs; its weights may be trained on others", async () => {
  const paired = { ...characterMeta("abc"), pairs: { length: 4, end: 0 } };
  const other = { ...characterMeta("abc"), pairs: { length: 4, end: 1 } };
  for (const meta of [characterMeta("abc"), other]) {
    await assert.rejects(
      choose(modelOf(paired, 3), meta, { resumes: true }),
      userError(/was trained on pairs of 4 tokens.*to train its weights on them: npx tsx train\.ts/),
    );
    await choose(modelOf(paired, 3), meta);
  }
  await choose(modelOf(paired, 3), paired, { resumes: true });
});

test("weights that don't say what their tokens mean: as many tokens are taken for the dataset's, and it is said", async () => {
  for (const known of [undefined, { kind: "ids", vocab_size: 3 } as const]) {
    const { vocab_size, lines } = await choose(modelOf(known, 3), characterMeta("abc"));
    assert.equal(vocab_size, 3);
    assert.match(lines[0]!, /what .*tokens .*mean: they are taken for those of dataset/);
  }
  const unsaid = modelOf(undefined, 61);
  for (const [meta, message] of [
    [
      characterMeta("abc"),
      /what its 61 tokens mean, and dataset .* has 3 characters; if .*copy the dataset's meta\.json/,
    ],
    [{ kind: "ids", vocab_size: 60 }, /has 60 tokens without a text/],
    [undefined, /has GPT-2's 50,257 tokens .*--vocab_size=N/],
  ] as const) {
    await assert.rejects(choose(unsaid, meta), userError(message));
    await assert.rejects(choose(unsaid, meta, { vocab: "extend" }), userError(message));
  }
  await assert.rejects(choose(modelOf(undefined, 50_257), GPT2_META), userError(/what its 50257 tokens mean/));
});

test("--vocab=extend: the rows of the same characters, of an encoder's mask, of tokens of one's own", async () => {
  const extend = { vocab: "extend" };
  const chosen = await choose(modelOf(characterMeta("abc"), 3), characterMeta("\ncxa"), extend);
  assert.deepEqual(chosen.rows, [-1, 2, -1, 0]);
  assert.deepEqual([chosen.vocab_size, chosen.tokens], [4, 4]);
  assert.equal(
    chosen.lines[0],
    "vocab extend: 2 of 4 characters keep their rows, 2 start fresh (\\nx); 1 of the model's are left out",
  );
  const same = await choose(modelOf(characterMeta("abc"), 3), characterMeta("abc"), extend);
  assert.equal(same.rows, undefined);
  const masked = await choose(modelOf(characterMeta("abc"), 4, "encoder"), characterMeta("xb"), extend);
  assert.deepEqual([masked.rows, masked.vocab_size, masked.tokens], [[-1, 1, 3], 3, 2]);
  const more = await choose(modelOf({ kind: "ids", vocab_size: 2 }, 2), { kind: "ids", vocab_size: 4 }, extend);
  assert.deepEqual(more.rows, [0, 1, -1, -1]);
  const wide = await choose(modelOf(characterMeta("ab"), 2), undefined, extend); // GPT-2's, padded
  assert.deepEqual([wide.vocab_size, wide.rows![64], wide.rows![65]], [50_304, 0, 1]);
});
