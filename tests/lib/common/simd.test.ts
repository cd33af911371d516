// The loops in WebAssembly against their plain twins, at lengths around the four numbers that are taken at once and
// around the block that is copied at once. (Dropout masks: rng.test.ts.)

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { adamw, lion, sumOfSquares } from "../../../lib/common/simd.ts";
import { adamwPlain } from "../../../lib/training/optimizers/adamw.ts";
import { lionPlain } from "../../../lib/training/optimizers/lion.ts";
import { assemble } from "../../../tools/wat.ts";
import { assertClose, randomFloats } from "../../support.ts";

const LENGTHS = [0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 2047, 2048, 2049, 4095, 4097, 8191, 8192, 8193, 20_001];

const arrays = (seed: string, length: number) => {
  const draw = (name: string) => randomFloats(`${seed} ${name}`, [length]);
  const [weight, grad, average] = [draw("weight"), draw("grad"), draw("average")];
  return [weight, grad, average, draw("square").map((x) => x * x)] as const;
};

for (const length of LENGTHS) {
  test(`AdamW on ${length} numbers`, () => {
    const factors = { scale: 0.5, beta1: 0.9, beta2: 0.95, shrink: 0.999, rate: 0.01, correction: 2, epsilon: 1e-8 };
    const fast = arrays(`adamw ${length}`, length);
    const plain = arrays(`adamw ${length}`, length);
    for (let step = 0; step < 3; step++) {
      adamw(...fast, factors);
      adamwPlain(...plain, factors);
    }
    // single against double precision: a rounding or two of numbers around 1 in each of three steps
    for (const [i, label] of ["weight", "grad", "average", "square"].entries()) {
      assertClose(fast[i]!, plain[i]!, { atol: 1e-6, rtol: 1e-6, label });
    }
  });

  test(`Lion on ${length} numbers`, () => {
    const factors = { scale: 0.5, beta1: 0.9, beta2: 0.99, shrink: 0.999, rate: 0.01 };
    const [fast, plain] = [arrays(`lion ${length}`, length), arrays(`lion ${length}`, length)];
    for (const [, grad, average] of [fast, plain]) {
      for (let i = 0; i < length; i += 5) grad[i] = average[i] = 0; // these don't move: their sign is 0
    }
    for (let step = 0; step < 3; step++) {
      lion(fast[0], fast[1], fast[2], factors);
      lionPlain(plain[0], plain[1], plain[2], factors);
    }
    // roundings as with AdamW; a sign that they turn would be a difference of twice the rate
    for (const [i, label] of ["weight", "grad", "average"].entries()) {
      assertClose(fast[i]!, plain[i]!, { atol: 1e-6, rtol: 1e-6, label });
    }
  });

  test(`the sum of squares of ${length} numbers`, () => {
    const x = randomFloats(`norm ${length}`, [length + 3]).subarray(3); // starts at no multiple of 16 bytes
    const expected = Array.from(x).reduce((sum, number) => sum + number * number, 0);
    assertClose([sumOfSquares(x)], [expected], { atol: 0, rtol: 1e-12, label: "sum" }); // both in double precision
  });
}

test("what lies behind a view is neither read nor written", () => {
  const whole = Array.from({ length: 4 }, () => new Float32Array(12).fill(7));
  const views = whole.map((array) => array.subarray(2, 9).fill(1)) as [
    Float32Array,
    Float32Array,
    Float32Array,
    Float32Array,
  ];
  adamw(...views, { scale: 1, beta1: 0.9, beta2: 0.9, shrink: 1, rate: 1, correction: 1, epsilon: 0 });
  for (const array of whole) assert.deepEqual([...array.slice(0, 2), ...array.slice(9)], [7, 7, 7, 7, 7]);
  assert.equal(sumOfSquares(views[1]), 7);
});

test("kernels.wasm is kernels.wat", async () => {
  const file = (extension: string) =>
    readFileSync(new URL(`../../../lib/common/kernels.${extension}`, import.meta.url));
  assert.deepEqual(Buffer.from(await assemble(file("wat").toString())), file("wasm"), "run: npm run kernels");
});
