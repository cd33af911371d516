// What running a program costs beyond its time: memory and tensors that stay behind, copies of what it computes.

import assert from "node:assert/strict";
import test from "node:test";
import { setImmediate } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

import { tf } from "../../../../lib/common/tf.ts";

import { compiled, eager, lossProgram, randomBatch, smallGPT } from "../../../support.ts";

/** The garbage collector, which Node hides. */
setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

test("compiled steps don't grow: memory and tensors at step 10 and at step 200", async () => {
  const model = smallGPT({ dropout: 0.1, n_embd: 16 });
  const program = await lossProgram(compiled, model, 4);
  const batch = randomBatch(model, 4);
  const at = async (from: number, to: number) => {
    for (let i = from; i < to; i++) await program.run(batch, { dropout: [i] });
    collectGarbage();
    await setImmediate(); // array buffers are freed a little later
    collectGarbage();
    const { rss, heapUsed, arrayBuffers } = process.memoryUsage();
    return { rss, heapUsed, arrayBuffers, tensors: tf.memory().numTensors };
  };
  const early = await at(0, 10);
  const late = await at(10, 200);
  assert.equal(late.tensors, early.tensors);
  // a step that kept its inputs, outputs or masks would keep some 30 KB, 5 MB in all; the rest is compiled code
  const grown = (key: "rss" | "heapUsed" | "arrayBuffers") => late[key] - early[key];
  assert.ok(grown("arrayBuffers") < 100_000, `arrays grew by ${grown("arrayBuffers")} bytes`);
  assert.ok(grown("heapUsed") < 1_000_000, `the heap grew by ${grown("heapUsed")} bytes`);
  assert.ok(grown("rss") < 30_000_000, `rss grew by ${grown("rss")} bytes`);
  await program.dispose();
});

test("a run makes no copy of its results", async () => {
  const size = 5_000_000; // 20 MB
  const program = await compiled.program(({ x }) => tf.neg(x), {
    variables: [],
    inputs: { x: { shape: [size], dtype: "float32" } },
  });
  const x = new Float32Array(size).fill(3);
  const before = process.memoryUsage().arrayBuffers;
  const results = [await program.run({ x }), await program.run({ x })];
  assert.equal(results[0]![size - 1], -3);
  assert.equal(results[0], results[1]); // the same array each time
  const grown = process.memoryUsage().arrayBuffers - before;
  assert.ok(grown < 1_000_000, `two runs made ${grown} bytes of arrays`);
  await program.dispose();
});

test("eager steps don't leave tensors behind", async () => {
  const model = smallGPT({ dropout: 0.1 });
  const program = await lossProgram(eager, model, 2);
  const batch = randomBatch(model, 2);
  const counts: number[] = [];
  for (let i = 0; i < 12; i++) {
    await program.run(batch, { dropout: [i] });
    counts.push(tf.memory().numTensors);
  }
  assert.equal(counts.at(-1), counts[1]);
});

test("making programs leaves no tensors behind", async () => {
  const { numTensors } = tf.memory();
  const model = smallGPT({ dropout: 0.1 });
  for (let i = 0; i < 3; i++) await (await lossProgram(compiled, model, 2)).dispose();
  assert.equal(tf.memory().numTensors, numTensors);
});
