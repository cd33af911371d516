// Muon's iteration, and which weights it takes. Against PyTorch's: torch.test.ts.

import assert from "node:assert/strict";
import test from "node:test";

import type { tf } from "../../../../lib/common/tf.ts";

import { createEngine, type Engine } from "../../../../lib/engine/runtime/program.ts";
import { isHiddenMatrix, newtonSchulz } from "../../../../lib/training/optimizers/muon.ts";
import { GPT } from "../../../../model.ts";
import { assertClose, assertSameBits, compiled, eager, randomFloats, smallGPT } from "../../../support.ts";

const orthogonalizer = (engine: Engine, shape: number[]) =>
  engine.program(({ momentum }: { momentum: tf.Tensor }) => newtonSchulz(momentum), {
    ...{ variables: [], inputs: { momentum: { shape, dtype: "float32" } } },
  });

for (const [rows, columns] of ["1x1", "4x4", "3x8", "8x3", "33x17"].map((shape) => shape.split("x").map(Number))) {
  const shape = [rows!, columns!];
  test(`[${shape}]: singular values between 0.6 and 1.3, whatever the matrix's length; compiled and not`, async () => {
    const x = randomFloats("x", shape);
    const results: Float32Array[] = [];
    for (const engine of [compiled, eager]) {
      const program = await orthogonalizer(engine, shape);
      for (const size of [1, 1e-4, 1e4])
        results.push((await program.run({ momentum: x.map((n) => n * size) })).slice());
      await program.dispose();
    }
    // single precision: roundings of 6e-8, which five steps of slope 3.4 enlarge up to 500 times
    for (const result of results.slice(1)) assertClose(result, results[0]!, { atol: 3e-5, label: "the same" });
    const [length, isTall] = [Math.min(...shape), rows! > columns!];
    const random = randomFloats("directions", [20, length]);
    for (let k = 0; k < 20; k++) {
      const direction = random.subarray(k * length, (k + 1) * length); // of the shorter side: a longer one has a null space
      const image = Array.from({ length: Math.max(...shape) }, (_, at) =>
        direction.reduce((sum, n, i) => sum + n * results[0]![isTall ? at * columns! + i : i * columns! + at]!, 0),
      );
      const stretch = Math.hypot(...image) / Math.hypot(...direction);
      assert.ok(stretch > 0.6 && stretch < 1.3, `a direction is stretched by ${stretch}`);
    }
  });
}

test("nothing is made of nothing", async () => {
  const program = await orthogonalizer(compiled, [2, 4, 8]);
  assert.ok((await program.run({ momentum: new Float32Array(64) })).every((number) => number === 0));
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
