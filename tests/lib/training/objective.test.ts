// What each architecture is trained on, out of files whose tokens say where they stand.

import assert from "node:assert/strict";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { keyOf } from "../../../lib/common/rng.ts";
import { TokenFile, writeTokens } from "../../../lib/text/token_file.ts";
import { type Batch, createObjective, emptyBatch, type Objective } from "../../../lib/training/objective.ts";
import { temporaryFolder, userError } from "../text/support.ts";

const T = 8;
const V = 1001; // an encoder's: the last one is the mask
const shape = { B: 3, T, vocab_size: V, mask_fraction: 0.3, pairs: undefined };
const key = keyOf(1, "test");

function fileOf(t: TestContext, tokens: ArrayLike<number>): TokenFile {
  const path = join(temporaryFolder(t), "train.bin");
  writeTokens(path, Uint16Array.from(tokens));
  const file = new TokenFile(path);
  t.after(() => file.close());
  return file;
}

/** Tokens 0 to 999. */
const counting = (t: TestContext) =>
  fileOf(
    t,
    Uint16Array.from({ length: 1000 }, (_, i) => i),
  );

function draw(objective: Objective, file: TokenFile, first = 0): Batch {
  const batch = emptyBatch(objective);
  objective.draw(file, key, first, batch);
  return batch;
}

const rowsOf = (ids: Int32Array) =>
  Array.from({ length: ids.length / T }, (_, b) => [...ids.subarray(b * T, b * T + T)]);

for (const architecture of ["decoder", "encoder", "encoder_decoder"]) {
  test(`${architecture}: a row is a function of its number, whatever stands beside it`, (t) => {
    const file = counting(t);
    const all = draw(createObjective(architecture, shape), file);
    const one = createObjective(architecture, { ...shape, B: 1 });
    for (let row = 0; row < 3; row++) {
      for (const [name, ids] of Object.entries(draw(one, file, row))) {
        const whole = all[name as "x"];
        assert.deepEqual(ids, whole.slice(row * ids.length, (row + 1) * ids.length), `${name}, row ${row}`);
      }
    }
  });
}

test("a decoder's targets are the tokens that follow", (t) => {
  const { x, y } = draw(createObjective("decoder", shape), counting(t));
  for (const row of rowsOf(x))
    assert.deepEqual(
      row,
      Array.from({ length: T }, (_, i) => row[0]! + i),
    );
  assert.deepEqual(
    y,
    x.map((id) => id + 1),
  );
});

test("an encoder guesses the same number of tokens in each row; 8 of 10 are masked, 1 is another, 1 is itself", (t) => {
  const file = counting(t);
  const B = 2000;
  const { x, y, masked_positions } = draw(createObjective("encoder", { ...shape, B }), file);
  const M = Math.round(0.3 * T);
  assert.deepEqual([y.length, masked_positions.length], [B * M, B * M]);
  const kinds = { masked: 0, itself: 0, another: 0 };
  const counts = new Int32Array(T);
  for (const [b, row] of rowsOf(x).entries()) {
    const labels = new Map(
      [...masked_positions.subarray(b * M, (b + 1) * M)].map((place, i) => [place, y[b * M + i]!]),
    );
    assert.equal(labels.size, M); // each place once
    for (const [place, label] of labels) {
      counts[place]!++;
      kinds[row[place] === V - 1 ? "masked" : row[place] === label ? "itself" : "another"]++;
    }
    const [[place, label]] = labels as unknown as [[number, number]];
    for (const [i, id] of row.entries()) assert.equal(labels.get(i) ?? id, label - place + i); // the file counts
  }
  // of 4,000: four standard deviations are 0.025 for 80 %, 0.019 for 10 %; of the 500 a place has on average, 19 %
  assert.ok(Math.abs(kinds.masked / 4000 - 0.8) < 0.025, `${kinds.masked}`);
  assert.ok(Math.abs(kinds.itself / 4000 - 0.1) < 0.019, `${kinds.itself}`);
  assert.ok(Math.abs(kinds.another / 4000 - 0.1) < 0.019, `${kinds.another}`);
  for (const count of counts) assert.ok(Math.abs(count / 500 - 1) < 0.19, `${counts}`);
});

test("at least one token is masked", (t) => {
  const { y } = draw(createObjective("encoder", { ...shape, mask_fraction: 0.001 }), counting(t));
  assert.equal(y.length, shape.B);
});

test("without pairs, what is written goes on where the source ends", (t) => {
  const { x, y, source, source_length } = draw(createObjective("encoder_decoder", shape), counting(t));
  assert.deepEqual([...source_length], [T, T, T]);
  for (const [b, row] of rowsOf(source).entries()) {
    assert.deepEqual(
      row,
      Array.from({ length: T }, (_, i) => row[0]! + i),
    );
    const end = row.at(-1)!;
    assert.deepEqual(
      rowsOf(x)[b],
      Array.from({ length: T }, (_, i) => end + i),
    );
    assert.deepEqual(
      rowsOf(y)[b],
      Array.from({ length: T }, (_, i) => end + i + 1),
    );
  }
});

test("pairs: the source's length, the target after the end token, and nothing counts behind its end", (t) => {
  const [end, L] = [0, 5];
  const pairs = [
    [[3, 4, 0, 0, 0], [5, 6, 7, 0, 0]],
    [[1, 2, 3, 4, 5], [9, 0, 0, 0, 0]],
    [[8, 0, 0, 0, 0], [1, 2, 3, 4, 0]],
  ]; // biome-ignore format: pairs
  const expected = new Map([
    ["3,4,0,0,0", { length: 2, x: [0, 5, 6, 7, 0], y: [5, 6, 7, 0, -1] }],
    ["1,2,3,4,5", { length: 5, x: [0, 9, 0, 0, 0], y: [9, 0, -1, -1, -1] }],
    ["8,0,0,0,0", { length: 1, x: [0, 1, 2, 3, 4], y: [1, 2, 3, 4, 0] }],
  ]);
  const B = 30;
  const options = { ...shape, B, T: L, pairs: { length: L, end } };
  const batch = draw(createObjective("encoder_decoder", options), fileOf(t, pairs.flat(2)));
  const seen = new Set<string>();
  for (let b = 0; b < B; b++) {
    const row = (ids: Int32Array) => [...ids.subarray(b * L, (b + 1) * L)];
    const source = row(batch.source).join();
    const { length, x, y } = expected.get(source)!;
    assert.deepEqual([batch.source_length[b], row(batch.x), row(batch.y)], [length, x, y]);
    seen.add(source);
  }
  assert.equal(seen.size, 3); // of 30 draws, all
});

test("one line: pairs for another architecture, or of another length", () => {
  const pairs = { length: 16, end: 0 };
  assert.throws(() => createObjective("decoder", { ...shape, pairs }), userError(/--architecture=encoder_decoder/));
  assert.throws(() => createObjective("encoder_decoder", { ...shape, pairs }), userError(/take --block_size=16$/));
});
