// What the stages refuse before anything is written, and what they call things.

import assert from "node:assert/strict";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { UserError } from "../../engine/errors.ts";
import { type Context, datasetName, stages } from "../../pipeline/stages.ts";
import { madeUpText, temporaryFolder } from "../scripts.ts";

const FOLDER = temporaryFolder();
const OWN = {
  optimize: true,
  optimize_seconds: 60,
  start: "\n",
  num_samples: 1,
  max_new_tokens: 1,
  temperature: 1,
  top_k: 0,
};

function context(input_file: string, tokenizer = "characters"): Context {
  const train = { block_size: 64, max_iters: 0 };
  const own = { ...OWN, input_file, tokenizer };
  return { outDir: join(FOLDER, "out"), own, train, trainDefaults: train, flags: new Set(), mostTokens: 1 };
}

test("a text that can't be trained on is refused in one line", () => {
  for (const [name, content, message] of [
    ["empty.txt", "", /empty\.txt is empty/],
    ["zero.txt", "text\0text", /zero\.txt is not text: it has zero bytes/],
    ["latin.txt", Uint8Array.of(0x66, 0xfc, 0x72, 0x20), /not UTF-8 text: bad byte at offset 1/],
    [
      "short.txt",
      madeUpText(300),
      /30 are for validation: too few for --block_size=64; use --block_size=29 or smaller/,
    ],
    ["word.txt", "a word", /too few for --block_size=64; give a longer text/],
  ] as const) {
    const path = join(FOLDER, name);
    writeFileSync(path, content);
    const refused = (error: unknown) =>
      error instanceof UserError && message.test(error.message) && !error.message.includes("\n");
    assert.throws(() => stages.process.check!(context(path)), refused, name);
  }
  assert.ok(!readdirSync(FOLDER).includes("out"));
});

test("the shortest text that will do is taken", () => {
  const path = join(FOLDER, "enough.txt");
  writeFileSync(path, "ä".repeat(650)); // 65 characters for validation: 64 and the one that follows them
  stages.process.check!(context(path));
  writeFileSync(path, "ä".repeat(640));
  assert.throws(() => stages.process.check!(context(path)), UserError);
});

test("a text's name is fit for file names", () => {
  assert.equal(datasetName("a/b/my.txt"), "my");
  assert.equal(datasetName("Über uns (2).md"), "Über-uns-2-");
  assert.equal(datasetName("archive.tar.txt"), "archive.tar");
});

test("optimize searches what isn't given, and no batch size where the number of steps is", () => {
  const searched = (flags: string[], optimize = true, max_iters = 0) => {
    const some = context(join(FOLDER, "any.txt"));
    some.train.max_iters = max_iters;
    const { settings } = stages.optimize.inputs({ ...some, own: { ...some.own, optimize }, flags: new Set(flags) });
    return settings.searched;
  };
  assert.deepEqual(searched([]), ["threads", "batch_size", "micro_batch_size", "learning_rate"]);
  assert.deepEqual(searched(["learning_rate", "n_layer"]), ["threads", "batch_size", "micro_batch_size"]);
  assert.deepEqual(searched([], true, 20), ["threads", "micro_batch_size", "learning_rate"]);
  assert.deepEqual(searched([], false), []);
});
