import assert from "node:assert/strict";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import { readMeta } from "../../../lib/text/meta.ts";
import { parsePairs, preparePairs, reversedWords } from "../../../lib/text/sequence_pairs.ts";
import { TokenFile } from "../../../lib/text/token_file.ts";
import { assertRefused, run, succeed } from "../../scripts.ts";
import { temporaryFolder, userError } from "./support.ts";

const source = { name: "made up", sha256: "0" };
const numbers = Array.from({ length: 40 }, (_, i) => [`${i}`, `n${"o".repeat(i % 7)}`] as const);

test("lines with a tab; empty ones and Windows' line ends are passed over, another line is named", () => {
  assert.deepEqual(parsePairs("a\tb\r\n\nc d\te\n", "x.tsv"), [["a", "b"], ["c d", "e"]]); // biome-ignore format: pairs
  for (const line of ["ab", "a\tb\tc", "\tb", "a\t"]) {
    assert.throws(
      () => parsePairs(`a\tb\n${line}\n`, "x.tsv"),
      userError(/^x\.tsv, line 2 is not "source<TAB>target"/),
    );
  }
});

test("words once each, and backwards", () => {
  assert.deepEqual(reversedWords("To be, or not to BE! a"), [["be", "eb"], ["not", "ton"], ["or", "ro"], ["to", "ot"]]); // biome-ignore format: pairs
});

test("every pair is in one of the files, padded with the end", (t) => {
  const folder = temporaryFolder(t);
  const { meta, left } = preparePairs(numbers, { text: "x", source }, { directory: folder, length: 0 });
  assert.equal(left, 0);
  const { length, end } = meta.pairs!;
  assert.equal(length, 8); // "n" and 6 "o", and the end
  assert.deepEqual(readMeta(folder)!.pairs, { length, end });
  const found: string[][] = [];
  for (const split of ["train", "val"]) {
    const file = new TokenFile(join(folder, `${split}.bin`));
    const ids = new Int32Array(file.length);
    file.read(0, file.length, ids);
    file.close();
    assert.equal(ids.length, split === "train" ? 36 * 16 : 4 * 16);
    for (let at = 0; at < ids.length; at += 2 * length) {
      found.push(
        [0, 1].map((side) => {
          const text = [...ids.subarray(at + side * length, at + (side + 1) * length)];
          const stop = text.indexOf(end);
          assert.ok(text.slice(stop).every((id) => id === end));
          return text.slice(0, stop).map((id) => meta.itos[id]).join(""); // biome-ignore format: a text
        }),
      );
    }
  }
  assert.deepEqual(found.sort(), numbers.map((pair) => [...pair]).sort());
  assert.notDeepEqual(
    found.map(([number]) => number),
    [...numbers.map(([number]) => number)],
  ); // mixed
});

test("longer pairs are left out; too few are refused, and nothing is written", (t) => {
  const folder = temporaryFolder(t);
  const given = { text: "x", source };
  assert.equal(preparePairs(numbers, given, { directory: folder, length: 7 }).left, 5);
  const other = join(folder, "other");
  assert.throws(
    () => preparePairs(numbers, given, { directory: other, length: 3 }),
    userError(/has 12 pairs of up to 3/),
  );
  assert.ok(!existsSync(other));
});

test("the script, with a file of one's own", async (t) => {
  const folder = temporaryFolder(t);
  const input = join(folder, "pairs.tsv");
  writeFileSync(input, numbers.map((pair) => pair.join("\t")).join("\n"));
  const out = await succeed("data/pairs/prepare.ts", [`--input=${input}`, `--out=${join(folder, "out")}`]);
  assert.match(
    out,
    /pairs: +40 of 2 times 8 tokens\ntrain with: npx tsx train\.ts config\/train_pairs\.ts --dataset=.* --block_size=8/,
  );
  writeFileSync(input, "a\tb\nc");
  assertRefused(await run("data/pairs/prepare.ts", [`--input=${input}`, `--out=${folder}`]), /line 2 is not/);
});
