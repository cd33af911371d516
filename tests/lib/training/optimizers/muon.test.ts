// Muon's iteration against its plain twin, and which weights it takes.

import assert from "node:assert/strict";
import test from "node:test";

import type { tf } from "../../../../lib/common/tf.ts";

import { createEngine, type Engine } from "../../../../lib/engine/runtime/program.ts";
import { isHiddenMatrix, newtonSchulz } from "../../../../lib/training/optimizers/muon.ts";
import { GPT } from "../../../../model.ts";
import { assertClose, assertSameBits, compiled, eager, randomFloats, smallGPT } from "../../../support.ts";
import { newtonSchulzPlain } from "./plain.ts";

const orthogonalizer = (engine: Engine, shape: number[]) =>
  engine.program(({ momentum }: { momentum: tf.Tensor }) => newtonSchulz(momentum), {
    ...{ variables: [], inputs: { momentum: { shape, dtype: "float32" } } },
  });

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
        const program = await orthogonalizer(engine, [rows, columns]);
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
  const program = await orthogonalizer(compiled, [rows, columns]);
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

test("matrices of a stack are made orthogonal each by itself, and nothing of nothing", async () => {
  const stack = await orthogonalizer(compiled, [2, 4, 8]);
  const both = Float32Array.from([
    ...randomFloats("first", [4, 8]),
    ...randomFloats("second", [4, 8]).map((number) => 100 * number),
  ]);
  const stacked = await stack.run({ momentum: both });
  for (const n of [0, 1]) {
    const expected = newtonSchulzPlain(both.subarray(n * 32, (n + 1) * 32), 4, 8);
    assertClose(stacked.subarray(n * 32, (n + 1) * 32), expected, { atol: 3e-5, label: `matrix ${n}` });
  }
  assert.ok((await stack.run({ momentum: new Float32Array(64) })).every((number) => number === 0));
});

test("one and two threads give the same bits", async () => {
  const shape = [96, 384];
  const x = randomFloats("threads", shape);
  const results: Float32Array[] = [];
  for (const threads of [1, 2]) {
    const program = await orthogonalizer(await createEngine({ compile: true, threads }), shape);
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
    hidden.map((parameter) => [parameter.name.replace("transformer.h.0.", ""), parameter.splits]),
    [
      ["attn.c_attn.weight", [4, 4, 4]],
      ["attn.c_proj.weight", [4]],
      ["mlp.c_fc.weight", [16]],
      ["mlp.c_proj.weight", [4]],
    ],
  );
});

test("experts are Muon's, and their router is not", () => {
  const model = smallGPT({ ffn: "moe", n_expert: 3, n_hidden: 12, n_shared_hidden: 4 });
  const hidden = model.parameters.filter(isHiddenMatrix).map(({ name }) => name);
  for (const layer of ["experts.c_gate", "experts.c_fc", "experts.c_proj", "shared.c_fc.weight"]) {
    assert.ok(hidden.includes(`transformer.h.1.mlp.${layer}`), layer);
  }
  assert.ok(!hidden.some((name) => /router|wte|wpe|ln_|bias/.test(name)), `${hidden}`);
});
