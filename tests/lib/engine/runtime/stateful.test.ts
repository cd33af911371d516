// Programs that change arrays in place: what a transition computes, leaves alone and gives back, and which ones are refused because
// an array would be overwritten too early.

import assert from "node:assert/strict";
import test from "node:test";

import { tf } from "../../../../lib/common/tf.ts";

import { assertClose, assertSameBits, compiled, eager, randomFloats } from "../../../support.ts";

const array = (name: string, shape: number[]) => ({ name, shape, data: randomFloats(name, shape) });

for (const [kind, engine] of Object.entries({ compiled, eager })) {
  test(`${kind}: new numbers are written over the old ones, views too; what has none is only read`, async () => {
    const whole = randomFloats("whole", [12]);
    const before = whole.slice();
    const w = { name: "w", shape: [2, 3], data: whole.subarray(3, 9) };
    const g = array("g", [2, 3]);
    const kept = g.data.slice();
    const program = await engine.stateful(
      ({ w, g }, { rate, shift }) => ({
        w: tf.sub(w!, tf.mul(g!, rate!)),
        total: tf.sum(tf.add(g!, shift!)),
      }),
      { state: [w, g], numbers: ["rate", "shift"] },
    );
    for (const rate of [0.5, 2]) {
      const expected = w.data.map((number, i) => number - rate * g.data[i]!);
      const sum = g.data.reduce((total, number) => total + number + 1, 0);
      const { total } = await program.run({ rate, shift: 1 });
      assertClose(w.data, expected, { atol: 1e-6, label: `rate ${rate}` });
      assertClose(total!, [sum], { atol: 1e-5, label: "an output" });
    }
    assertSameBits(g.data, kept, "only read");
    assertSameBits(whole.subarray(0, 3), before.subarray(0, 3), "in front of the view");
    assertSameBits(whole.subarray(9), before.subarray(9), "behind the view");
    await program.dispose();
  });
}

test("every number of a large array is read before it is written, on two threads, 20 times", async () => {
  const [m, w] = [array("m", [700, 1024]), array("w", [700, 1024])];
  const [plainM, plainW] = [m.data.slice(), w.data.slice()];
  const program = await compiled.stateful(
    ({ m, w }) => {
      const next = tf.add(tf.mul(m!, 0.5), w!);
      return { m: next, w: tf.sub(tf.mul(w!, 0.9), tf.mul(next, 0.1)) };
    },
    { state: [m, w], numbers: [] },
  );
  const round = Math.fround;
  for (let step = 0; step < 20; step++) {
    await program.run({});
    for (let i = 0; i < plainM.length; i++) {
      const next = round(plainM[i]! * 0.5 + plainW[i]!); // a half is exact: one rounding
      plainM[i] = next;
      plainW[i] = round(round(plainW[i]! * round(0.9)) - round(next * round(0.1)));
    }
  }
  assertSameBits(m.data, plainM, "m");
  assertSameBits(w.data, plainW, "w");
  await program.dispose();
});

const refused = /m is updated in place, but something else still reads it/;
const REFUSED: Record<string, (m: tf.Tensor, g: tf.Tensor) => Record<string, tf.Tensor>> = {
  "another result needs the old numbers and not the new ones": (m, g) => ({ m: tf.add(m, g), g: tf.mul(m, 2) }),
  "through a view": (m, g) => ({ m: tf.add(m, g), g: tf.reshape(tf.square(tf.reshape(m, [2, 8])), [4, 4]) }),
  "the kernel that writes reads other places": (m, g) => ({ m: tf.matMul(m, g) }),
  "two arrays change places": (m, g) => ({ m: g, g: m }),
};
for (const [name, body] of Object.entries(REFUSED)) {
  test(`refused: ${name}`, async () => {
    const state = [array("m", [4, 4]), array("g", [4, 4])];
    await assert.rejects(
      compiled.stateful(({ m, g }) => body(m!, g!), { state, numbers: [] }),
      refused,
    );
  });
}
