// The plain decoder against the model itself.

import assert from "node:assert/strict";
import test from "node:test";

import { tf } from "../../../lib/common/tf.ts";

import { createPlainDecoder } from "../../../lib/decoding/plain_decoder.ts";
import type { GPT } from "../../../model.ts";
import { assertClose, shaken } from "../../support.ts";

/** The logits after a context, out of those of all its positions. */
function lastLogits(model: GPT, tokens: readonly number[]): Float32Array {
  const { vocab_size: V } = model.config;
  const all = tf.tidy(() => model.logits(tf.tensor2d([...tokens], [1, tokens.length], "int32")).dataSync());
  return (all as Float32Array).slice(-V);
}

test("each sequence's logits, also past block_size, where the window slides", async () => {
  const model = shaken({});
  const decoder = createPlainDecoder(model);
  assert.equal(decoder.vocabSize, 11);
  const sequences = [
    [3, 7],
    [3, 7],
    [3, 7],
  ];
  let logits = await decoder.start([3, 7], 3);
  for (let step = 0; step < 8; step++) {
    for (const [i, tokens] of sequences.entries()) {
      const label = `step ${step}, sequence ${i}`;
      const expected = lastLogits(model, tokens.slice(-6));
      assertClose(logits.subarray(i * 11, (i + 1) * 11), expected, { atol: 1e-5, label }); // of up to 3, a few roundings
    }
    const next = sequences.map((_, i) => (step * 3 + i * 5) % 11);
    for (const [i, tokens] of sequences.entries()) tokens.push(next[i]!);
    logits = await decoder.next(next);
  }
});

test("a prompt longer than block_size; starting again forgets", async () => {
  const model = shaken({});
  const decoder = createPlainDecoder(model);
  const long = [0, 1, 2, 3, 4, 5, 6, 7, 8];
  assertClose(await decoder.start(long, 1), lastLogits(model, long.slice(-6)), { atol: 1e-5, label: "long" });
  await decoder.next([1]);
  assertClose(await decoder.start([5], 1), lastLogits(model, [5]), { atol: 1e-5, label: "again" });
});

test("no tensors are left", async () => {
  const decoder = createPlainDecoder(shaken({}));
  const { numTensors } = tf.memory();
  await decoder.start([1], 2);
  for (let i = 0; i < 8; i++) await decoder.next([1, 2]);
  await decoder.dispose();
  assert.equal(tf.memory().numTensors, numTensors);
});
