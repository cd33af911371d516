// The activations against PyTorch's in double precision. The kernels of some against model.ts' formulas: fast.test.ts.

import assert from "node:assert/strict";
import test from "node:test";

import { activations, gelu, geluTanh } from "../../../lib/nn/activation.ts";
import { layerFixture } from "../../fixtures/layers/read.ts";
import { assertClose, compiled, eager, evaluate, type Operation, randomFloats } from "../../support.ts";

/** tfjs' and ONNX Runtime's erf are polynomials, good to 2e-7; here times x up to 4. */
const TOLERANCE = { atol: 2e-6, rtol: 2e-6 };

const { tensors } = layerFixture("activations");
for (const [name, activation] of Object.entries(activations)) {
  test(`${name}: values and slopes as PyTorch's in double precision`, async () => {
    const x = tensors.get("x")!;
    const dy = randomFloats("dy", x.shape, -1, 1);
    const slopes = tensors.get(`d_${name}`)!.data.map((slope, i) => slope * dy[i]!);
    for (const engine of [compiled, eager]) {
      const { values, grads } = await evaluate(engine, ([x]) => activation(x), [x], { dy });
      assertClose(values, tensors.get(name)!.data, { ...TOLERANCE, label: name });
      assertClose(grads[0]!, slopes, { ...TOLERANCE, label: `${name}: slope` });
    }
  });
}

test("far from 0: nothing or all, no NaN", async () => {
  const args = [{ shape: [6], data: Float32Array.of(-1e4, -100, -20, 20, 100, 1e4) }];
  for (const operation of [(([x]) => gelu(x)) as Operation, (([x]) => geluTanh(x)) as Operation]) {
    for (const engine of [compiled, eager]) {
      const { values, grads } = await evaluate(engine, operation, args);
      assertClose(values, [0, 0, 0, 20, 100, 1e4], { atol: 1e-6, label: "values" });
      assertClose(grads[0]!.subarray(0, 3), [0, 0, 0], { atol: 1e-6, label: "gradients far below" });
      assert.ok(grads[0]!.every(Number.isFinite));
    }
  }
});
