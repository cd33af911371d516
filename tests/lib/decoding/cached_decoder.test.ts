// The compiled decoder with its cache against the plain one: the same logits, for one sequence and for several, as the
// cache grows and past block_size; weights from a file or from memory; in 8 bits.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { UserError } from "../../../lib/common/errors.ts";
import { SafetensorsFile, writeSafetensors } from "../../../lib/common/safetensors.ts";
import { createCachedDecoder } from "../../../lib/decoding/cached_decoder.ts";
import { createPlainDecoder } from "../../../lib/decoding/plain_decoder.ts";
import type { GPTConfig } from "../../../model.ts";
import { temporaryFolder } from "../../scripts.ts";
import { assertClose, compiled, randomInts, shaken } from "../../support.ts";
import { follow } from "./support.ts";

// a folder for temporary files of our own: other tests' are no business of this one
process.env.TMPDIR = temporaryFolder();
const temporaryFiles = () => readdirSync(tmpdir());

const CONFIGS: Partial<GPTConfig>[] = [
  { block_size: 12 },
  { block_size: 12, bias: false, ffn: "gelu_tanh", n_head: 1 },
  { block_size: 12, tie_weights: false, ffn: "silu", n_layer: 1, vocab_size: 30 },
  { block_size: 1, n_layer: 1 },
  { block_size: 150, n_layer: 1, n_head: 1, vocab_size: 101 }, // the cache grows twice; the vocabulary is a prime of sizes.ts
];
for (const config of CONFIGS) {
  test(`the plain decoder's logits: ${JSON.stringify(config)}`, async () => {
    const model = shaken(config);
    const decoder = await createCachedDecoder(compiled, model);
    const plain = createPlainDecoder(model);
    const steps = config.block_size! + 4; // past block_size
    await follow(decoder, plain, { prompt: [1, 2, 3], copies: 1, steps });
    await follow(decoder, plain, { prompt: [5], copies: 3, steps: Math.min(20, steps) }); // again from the start, with other sequences
    const long = [...randomInts("long", [config.block_size! + 3], 0, 11)];
    await follow(decoder, plain, { prompt: long, copies: 2, steps: 2 }); // a prompt beyond block_size
    await decoder.dispose();
  });
}

test("weights are taken from where a file has them", async () => {
  const model = shaken({ block_size: 12 });
  const path = join(temporaryFolder(), "weights.safetensors");
  writeSafetensors(path, model.parameters);
  const file = new SafetensorsFile(path);
  const plain = createPlainDecoder(model);
  const expected = (await plain.start([3, 1, 4], 1)).slice();
  for (const { data } of model.parameters) data.fill(0); // not looked at
  const before = temporaryFiles();
  const decoder = await createCachedDecoder(compiled, model, { place: (name) => file.place(name) });
  assertClose(await decoder.start([3, 1, 4], 1), expected, { atol: 2e-5, label: "logits" });
  assert.deepEqual(temporaryFiles(), before);
  await decoder.dispose();
  file.close();
});

test("a file that is gone by now is one line", async () => {
  const place = () => ({ path: join(temporaryFolder(), "gone.safetensors"), offset: 0, bytes: 4 });
  const folder = place();
  const make = createCachedDecoder(compiled, shaken({}), { place: () => folder });
  await assert.rejects(
    make,
    (error) => error instanceof UserError && /gone.safetensors was replaced/.test(error.message),
  );
});

test("8 bits: near the plain logits, and no temporary file is left", async () => {
  const model = shaken({ block_size: 40, n_embd: 48, n_head: 3, vocab_size: 90 });
  const before = temporaryFiles();
  const decoder = await createCachedDecoder(compiled, model, { int8: true });
  const plain = createPlainDecoder(model);
  const difference = async (logits: Float32Array, expected: Float32Array) => {
    const square = (numbers: Float32Array) => numbers.reduce((sum, number) => sum + number * number, 0);
    return Math.sqrt(square(logits.map((logit, i) => logit - expected[i]!)) / square(expected));
  };
  const worst = [await difference(await decoder.start([1, 2], 2), await plain.start([1, 2], 2))];
  for (let i = 0; i < 45; i++)
    worst.push(await difference(await decoder.next([i, (2 * i) % 90]), await plain.next([i, (2 * i) % 90])));
  // weights and activations are each off by up to 1/254 of their block's largest: a hundredth a product, a few in a row
  assert.ok(Math.max(...worst) < 0.06, `relative difference ${Math.max(...worst)}`);
  assert.ok(Math.max(...worst) > 1e-5, "the weights are in 8 bits");
  assert.deepEqual(temporaryFiles(), before);
  await decoder.dispose();
});

test("what can't be decoded is refused", async () => {
  const decoder = await createCachedDecoder(compiled, shaken({}));
  await assert.rejects(decoder.start([], 1), /at least one token/);
  await decoder.start([1], 2);
  await assert.rejects(decoder.next([1]), /1 tokens for 2 sequences/);
  await decoder.dispose();
});
