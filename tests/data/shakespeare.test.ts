// The script itself, on a text of our own: it must neither download nor write beside itself.

import assert from "node:assert/strict";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { readMeta } from "../../lib/text/meta.ts";
import { TokenFile } from "../../lib/text/token_file.ts";
import { createTokenizer } from "../../lib/text/tokenizer.ts";
import { assertRefused, run, succeed, temporaryFolder } from "../scripts.ts";

const SCRIPT = "data/shakespeare/prepare.ts";

test("prepare.ts makes a dataset of --input in --out, and says what it did", async (t) => {
  const folder = temporaryFolder();
  const text = "Once more unto the breach, dear friends, once more;\n".repeat(20);
  writeFileSync(join(folder, "in.txt"), text);
  const stdout = await succeed(SCRIPT, ["--input=in.txt", "--out=made"], { cwd: folder });
  assert.match(stdout, /in\.txt, 1,040 characters\nvocab_size: 50,257\ntrain\.bin: +\d+ tokens\nval\.bin: +\d+ tokens/);
  const made = join(folder, "made");
  assert.deepEqual(readdirSync(made).sort(), ["meta.json", "train.bin", "val.bin"]);
  const { decode, meta } = await createTokenizer(readMeta(made));
  const parts = ["train.bin", "val.bin"].map((name) => {
    const file = new TokenFile(join(made, name));
    t.after(() => file.close());
    const tokens = new Int32Array(file.length);
    file.read(0, file.length, tokens);
    return tokens;
  });
  assert.deepEqual(parts.map(decode), [text.slice(0, 936), text.slice(936)]);
  assert.deepEqual([meta.kind, meta.train_tokens, meta.val_tokens], ["gpt2", ...parts.map(({ length }) => length)]);
});

test("prepare.ts refuses a text that is too short in one line", async () => {
  const folder = temporaryFolder();
  writeFileSync(join(folder, "in.txt"), "short");
  assertRefused(
    await run(SCRIPT, ["--input=in.txt", "--out=made"], { cwd: folder }),
    /in\.txt has 5 characters; 11 are the least/,
  );
  assert.deepEqual(readdirSync(folder), ["in.txt"]);
});
