// A step: what micro-batches, a cancelled run and float16's loss scale make of it. A model of one weight vector, no GPT. The same
// loop for every layer choice: tests/combinations.test.ts, against PyTorch: tests/parity_torch.test.ts.

import assert from "node:assert/strict";
import test from "node:test";

import { tf } from "../../../lib/common/tf.ts";

import { Cancelled } from "../../../lib/engine/runtime/session.ts";
import { sgd } from "../../../lib/training/optimizers/sgd.ts";
import { type Phase, Step, type StepOptions } from "../../../lib/training/step.ts";
import { assertClose, assertSameBits, compiled, eager, randomFloats, randomVariable } from "../../support.ts";

/** factor mean((x w)^2) over rows of x [4, 3]; the gradient is factor 2 / 4 x^T x w. */
async function quadratic(changes: Partial<StepOptions<"x">> = {}, factor = 1) {
  const w = randomVariable("w", [3, 1]);
  const step = await Step.create<"x">({
    engine: compiled,
    loss: ({ x }) => tf.mul(tf.mean(tf.square(tf.matMul(x, w.value))), factor),
    ...{ parameters: [w], groups: { decay: [w], noDecay: [] }, inputs: { x: { shape: [4, 3], dtype: "float32" } } },
    ...{ optimizer: sgd({ momentum: 0 }), weight_decay: 0, grad_clip: 0 },
    ...changes,
  });
  return { w, step };
}

const draw = (name: string | number) => randomFloats(`x ${name}`, [4, 3]);

function gradientOf(w: Float32Array, x: Float32Array): number[] {
  const products = [0, 1, 2, 3].map((row) => [0, 1, 2].reduce((sum, c) => sum + x[3 * row + c]! * w[c]!, 0));
  return [0, 1, 2].map((c) => products.reduce((sum, product, row) => sum + (2 / 4) * x[3 * row + c]! * product, 0));
}

for (const [kind, engine] of Object.entries({ compiled, eager })) {
  test(`${kind}: the gradient is the mean over the micro-batches, in every step`, async () => {
    const { w, step } = await quadratic({ engine, microSteps: 3 });
    for (let iteration = 0; iteration < 3; iteration++) {
      const batches = [0, 1, 2].map((micro) => draw(`${iteration} ${micro}`));
      const gradients = batches.map((x) => gradientOf(w.data, x));
      const mean = [0, 1, 2].map((c) => gradients.reduce((sum, gradient) => sum + gradient[c]! / 3, 0));
      const expected = [...w.data].map((weight, c) => weight - 0.01 * mean[c]!);
      const phases: Phase[] = [];
      const made = await step.run({
        ...{ iteration, learningRate: 0.01, onPhase: (phase) => phases.push(phase) },
        batch: (micro) => ({ x: batches[micro]! }),
      });
      assertClose(w.data, expected, { atol: 1e-6, label: `weights after step ${iteration}` });
      assertClose([made.gradNorm], [Math.hypot(...mean)], { atol: 0, rtol: 1e-5, label: "norm" });
      assertClose(
        w.grad!.map((sum) => sum * made.gradScale),
        mean,
        { atol: 1e-5, label: "mean gradient" },
      );
      assert.deepEqual(phases, ["data", "compute", "data", "compute", "data", "compute", "update"]);
      assert.equal(step.updating, false);
    }
    await step.dispose();
  });
}

test("a step that is cancelled leaves the weights, the state and the next step as they are", async () => {
  const [one, other] = [await quadratic({ microSteps: 2, ema: 0.9 }), await quadratic({ microSteps: 2, ema: 0.9 })];
  const run = (step: typeof one.step, iteration: number) =>
    step.run({ iteration, learningRate: 0.1, batch: (micro) => ({ x: draw(`${iteration} ${micro}`) }) });
  await run(one.step, 0);
  await run(other.step, 0);
  const before = one.step.state.tensors().map(({ data }) => data.slice());
  const abort = new AbortController();
  const cancelled = one.step.run({
    ...{ iteration: 1, learningRate: 0.1, signal: abort.signal },
    batch(micro) {
      if (micro === 1) abort.abort(); // the first micro-batch's gradients are there
      return { x: draw("lost") };
    },
  });
  await assert.rejects(cancelled, Cancelled);
  for (const [i, { name, data }] of one.step.state.tensors().entries()) assertSameBits(data, before[i]!, name);
  await run(one.step, 1);
  await run(other.step, 1);
  assert.deepEqual(one.step.state.metadata(), other.step.state.metadata());
  for (const [i, { name, data }] of one.step.state.tensors().entries()) {
    assertSameBits(data, other.step.state.tensors()[i]!.data, name);
  }
});

test("float16: the loss scale changes nothing but what its products round, and an overflow skips the step", async () => {
  const small = 2 ** -10; // of a loss whose gradients float16 holds 65536 times as large
  const [half, single] = [await quadratic({ half: true }, small), await quadratic({}, small)];
  const x = new Float32Array(12).map((_, i) => (i % 4) - 1); // products that float16 holds exactly
  const weights = Float32Array.of(1, -2, 0.5);
  for (const { w } of [half, single]) w.data.set(weights);
  const run = (step: typeof half.step, x: Float32Array) =>
    step.run({ iteration: 0, learningRate: 2 ** 6, batch: () => ({ x }) });
  const [made, expected] = [await run(half.step, x), await run(single.step, x)];
  assert.equal(made.gradScale, 1 / 65_536);
  assertSameBits(half.w.data, single.w.data, "weights");
  assert.equal(made.gradNorm, expected.gradNorm);
  assert.deepEqual(made.metrics, { ...expected.metrics, loss_scale: 65_536, skipped_steps: 0 });

  const before = half.w.data.slice();
  const overflow = await run(
    half.step,
    x.map((number) => 1000 * number),
  );
  assert.match(overflow.skipped!, /the step is skipped, and the loss scale is 32768 now/);
  assert.ok(!Number.isFinite(overflow.gradNorm));
  assert.equal("grad_norm" in overflow.metrics, false);
  assertSameBits(half.w.data, before, "weights of a skipped step");
});
