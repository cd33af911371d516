import assert from "node:assert/strict";
import { readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import { prepareCharacters } from "../../../lib/text/characters.ts";
import { openDataset } from "../../../lib/text/open_dataset.ts";
import { claimFolder } from "../../../lib/text/replace.ts";
import { temporaryFolder, userError } from "./support.ts";

const source = { name: "a test", sha256: "" };
const OLD = "abcdefghij".repeat(4);
const NEW = "0123456789".repeat(6);

function prepare(folder: string, text: string): string {
  prepareCharacters({ text, source, directory: folder });
  return folder;
}

/** What is in the dataset that counts: its vocabulary, and how many tokens each file has. */
function read(folder: string): (string | number)[] {
  const { meta, splits } = openDataset(folder);
  for (const file of Object.values(splits)) file.close();
  return [meta?.kind === "char" ? meta.itos.join("") : "", splits.train.length, splits.val.length];
}

test("at each moment of a replacement readers have all of the old dataset or all of the new one", (t) => {
  const parent = temporaryFolder(t);
  const folder = prepare(join(parent, "old"), OLD);
  const made = prepare(join(parent, "new"), NEW);
  const [before, after] = [read(folder), read(made)];
  assert.notDeepEqual(before, after);
  const move = (from: string, to: string) => renameSync(from, join(folder, to));
  // in the order of replace.ts; each state is one that a kill may leave
  const moments: [string, string][] = [
    ["train.bin", "train.bin.partial"],
    ["val.bin", "val.bin.partial"],
    ["meta.json", "meta.json.ready"],
  ];
  for (const [from, to] of moments) {
    assert.deepEqual(read(folder), before, `before ${to}`);
    move(join(made, from), to);
  }
  assert.deepEqual(read(folder), after);
  for (const split of ["train", "val"]) {
    move(join(folder, `${split}.bin.partial`), `${split}.bin`);
    assert.deepEqual(read(folder), after, `after the renaming of ${split}.bin`);
  }
  writeFileSync(join(folder, "val.bin.17.tmp"), "x"); // what a script of an earlier version left
  claimFolder(folder)(); // as the next script does
  assert.deepEqual(read(folder), after);
  assert.deepEqual(readdirSync(folder).sort(), ["meta.json", "train.bin", "val.bin"]);
});

test("a script that fails takes away what it began, and leaves the dataset that was there", (t) => {
  const folder = prepare(join(temporaryFolder(t), "data"), OLD);
  const before = read(folder);
  assert.throws(() => prepare(folder, "short"), userError(/5 characters/));
  const release = claimFolder(folder);
  assert.throws(() => prepare(folder, NEW), userError(/in use: preparing a dataset in process/));
  release();
  assert.deepEqual(read(folder), before);
  assert.deepEqual(readdirSync(folder).sort(), ["meta.json", "train.bin", "val.bin"]);
});

test("token files that meta.json doesn't describe are refused", (t) => {
  const parent = temporaryFolder(t);
  const folder = prepare(join(parent, "old"), OLD);
  renameSync(join(prepare(join(parent, "new"), NEW), "val.bin"), join(folder, "val.bin"));
  assert.throws(
    () => openDataset(folder),
    userError(/val\.bin has 6 tokens, and 4 in meta\.json: of two datasets; run/),
  );
  rmSync(join(folder, "meta.json")); // as nanoGPT's own
  assert.deepEqual(read(folder), ["", 36, 6]);
});
