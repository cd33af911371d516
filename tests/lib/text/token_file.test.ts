import assert from "node:assert/strict";
import { closeSync, ftruncateSync, mkdirSync, openSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import { sampleBatch, TokenFile, writeTokens } from "../../../lib/text/token_file.ts";
import { randomNumbers, temporaryFolder, userError } from "./support.ts";

test("what was written is little-endian and comes back, over the buffer's borders as well", (t) => {
  const path = join(temporaryFolder(t), "train.bin");
  const random = randomNumbers(2);
  const tokens = Uint16Array.from({ length: 100_000 }, () => random() * 65_536);
  tokens.set([0, 1, 256, 65_535]);
  writeTokens(path, tokens.subarray(0)); // a view, as the prepare scripts pass
  assert.deepEqual([...readFileSync(path).subarray(0, 8)], [0, 0, 1, 0, 0, 1, 255, 255]);

  const file = new TokenFile(path);
  assert.equal(file.length, 100_000);
  const whole = new Int32Array(100_002).fill(-1);
  file.read(0, 100_000, whole, 1);
  assert.deepEqual(whole, Int32Array.from([-1, ...tokens, -1]));
  const part = new Int32Array(3);
  file.read(99_997, 3, part);
  assert.deepEqual(part, Int32Array.from(tokens.subarray(99_997)));
  file.close();
});

test("reading outside of the file or the array is a bug and says so", (t) => {
  const path = join(temporaryFolder(t), "train.bin");
  writeTokens(path, Uint16Array.of(1, 2, 3, 4));
  const file = new TokenFile(path);
  t.after(() => file.close());
  const into = new Int32Array(4);
  for (const [start, count, at] of [
    [-1, 2, 0],
    [2, 3, 0],
    [0, 3, 2],
    [Number.NaN, 1, 0],
  ] as const) {
    assert.throws(() => file.read(start, count, into, at), /internal:/);
  }
  assert.deepEqual([...into], [0, 0, 0, 0]);
});

test("files that hold no tokens are refused with what to run", (t) => {
  const folder = temporaryFolder(t);
  mkdirSync(join(folder, "names"));
  writeFileSync(join(folder, "names", "prepare.ts"), "");
  const path = join(folder, "names", "train.bin");
  assert.throws(() => new TokenFile(path), userError(/^no .*train\.bin; run: npx tsx .*names.prepare\.ts$/));
  writeFileSync(path, "");
  assert.throws(() => new TokenFile(path), userError(/is empty; run: npx tsx/));
  writeFileSync(path, "abc");
  assert.throws(() => new TokenFile(path), userError(/has 3 bytes/));
  assert.throws(() => new TokenFile(folder), userError(/is a folder, not a file/));
});

test("a file that is cut while it is open is one line", (t) => {
  const path = join(temporaryFolder(t), "train.bin");
  writeTokens(path, new Uint16Array(10));
  const file = new TokenFile(path);
  t.after(() => file.close());
  writeFileSync(path, "ab");
  assert.throws(() => file.read(0, 10, new Int32Array(10)), userError(/became shorter/));
});

test("tokens behind 4 GiB", { skip: process.platform === "win32" && "no sparse files" }, (t) => {
  const path = join(temporaryFolder(t), "train.bin");
  const handle = openSync(path, "w");
  ftruncateSync(handle, 5 * 2 ** 30); // a hole: takes no room
  writeSync(handle, Buffer.from([1, 2, 3, 4]), 0, 4, 5 * 2 ** 30 - 4);
  closeSync(handle);
  const file = new TokenFile(path);
  t.after(() => file.close());
  assert.equal(file.length, 2.5 * 2 ** 30);
  const into = new Int32Array(3);
  file.read(file.length - 3, 3, into);
  assert.deepEqual([...into], [0, 0x0201, 0x0403]);
});

test("batches are the slices that nanoGPT takes", (t) => {
  const path = join(temporaryFolder(t), "train.bin");
  const tokens = Uint16Array.from({ length: 50 }, (_, i) => (i * i) % 97);
  writeTokens(path, tokens);
  const file = new TokenFile(path);
  t.after(() => file.close());
  for (const [B, T] of [
    [4, 8],
    [1, 1],
    [3, 49],
    [7, 32],
  ] as const) {
    const random = randomNumbers(B * 100 + T);
    const chances = Array.from({ length: B }, random);
    chances[0] = 0;
    chances[B - 1] = 1 - 2 ** -53; // the ends of [0, 1)
    const x = new Int32Array(B * T);
    const y = new Int32Array(B * T);
    sampleBatch(file, { B, T }, (b) => chances[b] ?? 0, x, y);
    const starts = chances.map((chance) => Math.floor(chance * (tokens.length - T)));
    assert.deepEqual(
      [...x],
      starts.flatMap((start) => [...tokens.slice(start, start + T)]),
    );
    assert.deepEqual(
      [...y],
      starts.flatMap((start) => [...tokens.slice(start + 1, start + 1 + T)]),
    );
  }
});

test("a file without room for a row names both numbers and the flag", (t) => {
  const path = join(temporaryFolder(t), "val.bin");
  writeTokens(path, Uint16Array.of(1, 2, 3));
  const file = new TokenFile(path);
  t.after(() => file.close());
  const batch = (T: number) => sampleBatch(file, { B: 1, T }, () => 0, new Int32Array(T), new Int32Array(T));
  assert.throws(() => batch(3), userError(/val\.bin has 3 tokens, too few for --block_size=3; use --block_size=2/));
  batch(2);
});

test("a token beyond the vocabulary is one line with file, place, token and vocabulary: in a batch, and in a scan of the file", (t) => {
  const path = join(temporaryFolder(t), "train.bin");
  const tokens = Uint16Array.from({ length: 100_000 }, (_, i) => i % 34);
  tokens[70_001] = 34; // behind the buffer's end
  writeTokens(path, tokens);
  const file = new TokenFile(path);
  t.after(() => file.close());
  const x = new Int32Array(10);
  const batch = (chance: number) => sampleBatch(file, { B: 1, T: 10 }, () => chance, x, new Int32Array(10));
  file.scan(); // nothing was said about a vocabulary
  batch(0.7);
  file.vocabSize = 34;
  const message = userError(
    /train\.bin has the token 34 at index 70,001, and the vocabulary has 34 tokens, 0 to 33; run the/,
  );
  assert.throws(() => file.scan(), message);
  assert.throws(() => batch(0.7), message);
  batch(0.6);
  assert.deepEqual([...x], [...tokens.subarray(Math.floor(0.6 * 99_990), Math.floor(0.6 * 99_990) + 10)]);
  file.vocabSize = 35;
  file.scan();
  batch(0.7);
});
