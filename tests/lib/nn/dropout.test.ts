// Dropout: what is kept is scaled, the gradient goes the way of the values, evaluation does nothing.

import assert from "node:assert/strict";
import test from "node:test";

import { tf } from "../../../lib/common/tf.ts";

import { type DropoutRng, dropLayer, dropout } from "../../../lib/nn/dropout.ts";
import { assertClose, assertLayer, compiled, eager, evaluate, floats } from "../../support.ts";

for (const [kind, engine] of Object.entries({ compiled, eager })) {
  test(`${kind}: an element is 0 or scaled up; its gradient has the same factor`, async () => {
    for (const rate of [0.1, 0.5, 0.9]) {
      const args = [floats("x", [20, 30])];
      const options = { dropout: [1, 2] };
      const { values, grads } = await evaluate(engine, ([x], mask) => dropout(x, rate, mask), args, options);
      const dy = (await evaluate(engine, ([x]) => x, args)).grads[0]!;
      const factors = values.map((y) => (y === 0 ? 0 : 1 / (1 - rate)));
      assert.ok(factors.includes(0) && factors.some((factor) => factor > 0));
      assertClose(
        values,
        factors.map((f, i) => f * args[0]!.data[i]!),
        { atol: 0, rtol: 1e-6, label: "value" },
      );
      assertClose(
        grads[0]!,
        factors.map((f, i) => f * dy[i]!),
        { atol: 0, rtol: 1e-6, label: "gradient" },
      );
    }
  });
}

test("compiled equals eager, each call drawing another mask", async () => {
  const twice = ([x]: tf.Tensor[], mask: Parameters<typeof dropout>[2]) => [
    dropout(x!, 0.5, mask),
    dropout(x!, 0.5, mask),
  ];
  const args = [floats("x", [8, 9])];
  const expected = await evaluate(eager, twice, args, { dropout: [3] });
  const actual = await evaluate(compiled, twice, args, { dropout: [3] });
  assertClose(actual.values, expected.values, { atol: 0, rtol: 1e-6, label: "value" });
  assertClose(actual.grads[0]!, expected.grads[0]!, { atol: 1e-6, label: "gradient" });
  assert.notDeepEqual(actual.values.slice(0, 72), actual.values.slice(72));
});

test("no mask is drawn, and nothing recorded, where nothing is dropped", () => {
  const x = tf.tensor1d([1, 2]);
  const fail = () => assert.fail("a mask was drawn");
  const never = { keep: fail, integers: fail };
  assert.equal(dropout(x, 0, never), x);
  assert.equal(dropout(x, 0.5, undefined), x);
  x.dispose();
});

test("stochastic depth: whole sequences are left out, the others scaled; nothing without a mask or at rate 0", async () => {
  const x = floats("x", [4, 3, 2]);
  const keep = Uint8Array.of(1, 0, 0, 1);
  const make = (shape: readonly number[]) => tf.tensor(keep, [...shape], "bool");
  const mask: DropoutRng = { keep: make, integers: make };
  const scaled = ([x]: tf.Tensor[]) => tf.mul(x!, tf.tensor3d([[[1.6]], [[0]], [[0]], [[1.6]]])); // 1 / (1 - 0.375)
  const run = ([x]: tf.Tensor[]) => dropLayer(x!, 0.375, mask);
  const tolerance = { atol: 1e-6, label: "stochastic depth" }; // one product
  await assertLayer(run, scaled, [x], tolerance);
  const still = tf.zeros([4, 3, 2]);
  assert.equal(dropLayer(still, 0.5, undefined), still);
  assert.equal(dropLayer(still, 0, mask), still);
});
