import assert from "node:assert/strict";
import { appendFileSync, readdirSync, readFileSync, renameSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import { noTally } from "../../../lib/text/documents.ts";
import { PartialDataset } from "../../../lib/text/partial_dataset.ts";
import { temporaryFolder, userError } from "./support.ts";

const place = (file: number) => ({ file, at: 7, documents: 3, val_documents: 1, tally: noTally() });
const tokens = (...numbers: number[]) => Uint16Array.from(numbers);

test("goes on where it was saved, and forgets what came after", (t) => {
  const folder = temporaryFolder(t);
  const first = new PartialDataset(folder, { seed: 1 }, false);
  assert.equal(first.resumed, false);
  first.append("train", tokens(1, 2));
  first.append("val", tokens(50_256));
  first.save(place(4));
  first.append("train", tokens(3));
  first.close();
  appendFileSync(join(folder, "val.bin.partial"), "x"); // half a token
  writeFileSync(join(folder, "meta.json.partial.123.tmp"), "half a sta"); // what a kill may leave

  const second = new PartialDataset(folder, { seed: 1 }, false);
  assert.equal(second.resumed, true);
  const { file, at, documents, val_documents, train_tokens, val_tokens } = second.state;
  assert.deepEqual([file, at, documents, val_documents, train_tokens, val_tokens], [4, 7, 3, 1, 2, 1]);
  second.append("train", tokens(258));
  writeFileSync(join(folder, "meta.json"), "of an older dataset");
  second.finish(place(5), { kind: "gpt2" });
  assert.deepEqual(readdirSync(folder).sort(), ["meta.json", "train.bin", "val.bin"]);
  assert.deepEqual([...readFileSync(join(folder, "train.bin"))], [1, 0, 2, 0, 2, 1]);
  assert.deepEqual([...readFileSync(join(folder, "val.bin"))], [0x50, 0xc4]);
  assert.deepEqual(JSON.parse(readFileSync(join(folder, "meta.json"), "utf8")), { kind: "gpt2" });
});

test("a kill between the last steps loses nothing", (t) => {
  for (const renamed of [[], ["train"], ["train", "val"]]) {
    const folder = temporaryFolder(t);
    const first = new PartialDataset(folder, {}, false);
    first.append("train", tokens(1));
    first.append("val", tokens(2));
    first.save(place(1), true);
    first.close();
    writeFileSync(join(folder, "meta.json.ready"), "{}"); // from here on it counts
    for (const split of renamed) renameSync(join(folder, `${split}.bin.partial`), join(folder, `${split}.bin`));
    const second = new PartialDataset(folder, {}, false);
    assert.ok(second.state.complete);
    second.finish(place(1), {});
    assert.deepEqual(readdirSync(folder).sort(), ["meta.json", "train.bin", "val.bin"]);
    assert.deepEqual([...readFileSync(join(folder, "train.bin"))], [1, 0]);
    assert.deepEqual([...readFileSync(join(folder, "val.bin"))], [2, 0]);
  }
});

test("what was made of something else is refused in one line, or thrown away", (t) => {
  const folder = temporaryFolder(t);
  const first = new PartialDataset(folder, { seed: 1 }, false);
  first.append("train", tokens(1, 2));
  first.save(place(4));
  first.close();
  const again = (madeOf: object, restart = false) => new PartialDataset(folder, madeOf, restart);
  assert.throws(() => again({ seed: 2 }), userError(/with other input or settings/, /--restart=true$/));
  truncateSync(join(folder, "train.bin.partial"), 2);
  assert.throws(() => again({ seed: 1 }), userError(/train\.bin\.partial was changed/, /--restart=true$/));
  writeFileSync(join(folder, "meta.json.partial"), '{"version": 2}');
  assert.throws(() => again({ seed: 1 }), userError(/meta\.json\.partial is damaged .*; use --restart=true$/));
  const anew = again({ seed: 2 }, true);
  assert.deepEqual([anew.resumed, anew.state.file, anew.state.train_tokens], [false, 0, 0]);
  anew.close();
  assert.deepEqual(readdirSync(folder), []); // nothing was saved
});
