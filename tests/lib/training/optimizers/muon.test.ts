// Muon's iteration against its plain twin, and which weights it takes.

import assert from "node:assert/strict";
import test from "node:test";
import { createEngine } from "../../../../lib/engine/runtime/program.ts";
import {
  columnParts,
  isHiddenMatrix,
  Muon,
  newtonSchulzPlain,
  orthogonalizer,
} from "../../../../lib/training/optimizers/muon.ts";
import { GPT } from "../../../../model.ts";
import { assertClose, assertSameBits, compiled, eager, randomFloats, smallGPT } from "../../../support.ts";

const SHAPES = [
  [1, 1],
  [4, 4],
  [3, 8],
  [8, 3],
  [16, 40],
  [33, 17],
];

for (const [rows, columns] of SHAPES as [number, number][]) {
  test(`the program equals the plain twin: [${rows}, ${columns}], compiled and not`, async () => {
    for (const size of [1, 1e-4, 1e4]) {
      const x = randomFloats(`x ${rows} ${columns}`, [rows, columns]).map((number) => number * size);
      const plain = newtonSchulzPlain(x, rows, columns);
      for (const engine of [compiled, eager]) {
        const program = await orthogonalizer(engine, [rows, columns], [columns]);
        const result = await program.run({ momentum: x });
        // single precision: roundings of 6e-8, which five steps of slope 3.4 enlarge up to 500 times
        assertClose(result, plain, { atol: 3e-5, label: `times ${size}` });
        await program.dispose();
      }
    }
  });
}

test("the result is nearly orthogonal: its singular values are between 0.6 and 1.3", async () => {
  const [rows, columns] = [12, 30];
  const program = await orthogonalizer(compiled, [rows, columns], [columns]);
  const result = await program.run({ momentum: randomFloats("x", [rows, columns]) });
  const random = randomFloats("directions", [50, rows]);
  for (let k = 0; k < 50; k++) {
    const direction = random.subarray(k * rows, (k + 1) * rows);
    const image = Array.from({ length: columns }, (_, c) => {
      return direction.reduce((sum, number, r) => sum + number * result[r * columns + c]!, 0);
    });
    const stretch = Math.hypot(...image) / Math.hypot(...direction);
    assert.ok(stretch > 0.6 && stretch < 1.3, `a direction is stretched by ${stretch}`);
  }
});

test("parts are made orthogonal each by itself, matrices of a stack too, and nothing of nothing", async () => {
  const [rows, parts] = [4, [4, 2, 2]];
  const x = randomFloats("packed", [rows, 8]);
  const column = (array: ArrayLike<number>, width: number, from: number, size: number) =>
    Array.from({ length: rows * size }, (_, i) => array[Math.floor(i / size) * width + from + (i % size)]!);
  const packed = await orthogonalizer(compiled, [rows, 8], parts);
  const result = (await packed.run({ momentum: x })).slice();
  let from = 0;
  for (const size of parts) {
    const expected = newtonSchulzPlain(column(x, 8, from, size), rows, size);
    assertClose(column(result, 8, from, size), expected, { atol: 3e-5, label: `columns from ${from}` });
    from += size;
  }
  const stack = await orthogonalizer(compiled, [2, 4, 8], [8]);
  const both = Float32Array.from([...x, ...randomFloats("second", [rows, 8]).map((number) => 100 * number)]);
  const stacked = await stack.run({ momentum: both });
  for (const n of [0, 1]) {
    const expected = newtonSchulzPlain(both.subarray(n * 32, (n + 1) * 32), 4, 8);
    assertClose(stacked.subarray(n * 32, (n + 1) * 32), expected, { atol: 3e-5, label: `matrix ${n}` });
  }
  assert.ok((await packed.run({ momentum: new Float32Array(32) })).every((number) => number === 0));
});

test("one and two threads give the same bits", async () => {
  const shape = [96, 384];
  const x = randomFloats("threads", shape);
  const results: Float32Array[] = [];
  for (const threads of [1, 2]) {
    const program = await orthogonalizer(await createEngine({ compile: true, threads }), shape, [384]);
    results.push((await program.run({ momentum: x })).slice());
  }
  assertSameBits(results[1]!, results[0]!, "two threads");
});

test("the matrices of a GPT's blocks are Muon's, and c_attn is three of them", () => {
  const config = {
    block_size: 8,
    vocab_size: 11,
    n_layer: 1,
    n_head: 2,
    n_embd: 4,
    dropout: 0,
    bias: true,
    ffn: "gelu" as const,
  };
  const model = new GPT({ ...config, tie_weights: false });
  const hidden = model.parameters.filter(isHiddenMatrix);
  assert.deepEqual(
    hidden.map((parameter) => [parameter.name.replace("transformer.h.0.", ""), columnParts(parameter)]),
    [
      ["attn.c_attn.weight", [4, 4, 4]],
      ["attn.c_proj.weight", [4]],
      ["mlp.c_fc.weight", [16]],
      ["mlp.c_proj.weight", [4]],
    ],
  );
  const fewerKeys = { name: "transformer.h.0.attn.c_attn.weight", shape: [8, 12] };
  assert.deepEqual(columnParts(fewerKeys), [8, 2, 2]);
  assert.deepEqual(columnParts({ name: "transformer.h.0.cross_attn.c_kv.weight", shape: [8, 16] }), [8, 8]);
});

test("experts are Muon's, each a matrix of its own, and their router is not", async () => {
  const model = smallGPT({ ffn: "moe", n_expert: 3, n_hidden: 12, n_shared_hidden: 4 });
  const hidden = model.parameters.filter(isHiddenMatrix).map(({ name }) => name);
  for (const layer of ["experts.c_gate", "experts.c_fc", "experts.c_proj", "shared.c_fc.weight"]) {
    assert.ok(hidden.includes(`transformer.h.1.mlp.${layer}`), layer);
  }
  assert.ok(!hidden.some((name) => /router|wte|wpe|ln_|bias/.test(name)), `${hidden}`);

  const options = { beta1: 0.9, beta2: 0.99, weight_decay: 0, grad_clip: 0, momentum: 0.9 };
  const muon = await Muon.create(model.decayGroups(), options, compiled);
  for (const parameter of model.parameters) parameter.grad = randomFloats(`grad ${parameter.name}`, parameter.shape);
  const proj = model.parameters.find(({ name }) => name.endsWith("h.0.mlp.experts.c_proj"))!; // [3, 12, 8]
  const before = proj.data.slice();
  await muon.step(0.1);
  for (let e = 0; e < 3; e++) {
    const own = (array: Float32Array) => array.subarray(e * 96, (e + 1) * 96);
    // the first momentum is the gradient times a number, which the iteration's norm takes off; 0.2 sqrt(12): the scale
    const update = newtonSchulzPlain(own(proj.grad!), 12, 8);
    const expected = own(before).map((number, i) => number - 0.1 * 0.2 * Math.sqrt(12) * update[i]!);
    assertClose(own(proj.data), expected, { atol: 1e-5, label: `expert ${e}` }); // a tenth of the program's 3e-5, and less
  }
});
