// A weight: how it starts, and which tensor stands for it.

import assert from "node:assert/strict";
import test from "node:test";

import { tf } from "../../../lib/common/tf.ts";

import { Parameter } from "../../../lib/nn/parameter.ts";
import "../../support.ts"; // sets the plain backend

test("constants are filled in at once, random weights wait", () => {
  assert.deepEqual([...new Parameter("w", [2, 2], { constant: 3 }).data], [3, 3, 3, 3]);
  assert.deepEqual([...new Parameter("w", [2], { normal: 1 }).data], [0, 0]);
  assert.equal(new Parameter("w", [], { constant: 1 }).data.length, 1);
});

test("the value is what was bound, and the numbers themselves once that is gone", () => {
  const parameter = new Parameter("w", [2], { constant: 3 });
  tf.tidy(() => {
    assert.deepEqual([...parameter.value.dataSync()], [3, 3]);
    const bound = tf.tensor1d([7, 8]);
    parameter.value = bound;
    assert.equal(parameter.value, bound);
  });
  tf.tidy(() => {
    parameter.data[0] = 5;
    assert.deepEqual([...parameter.value.dataSync()], [5, 3]);
    assert.deepEqual(parameter.value.shape, [2]);
  });
});
