// Programs: what a run takes, gives back and leaves behind; compiled and eager alike.

import assert from "node:assert/strict";
import test from "node:test";

import { tf } from "../../../../lib/common/tf.ts";

import { createEngine, type DropoutRng, EngineError } from "../../../../lib/engine/runtime/program.ts";
import { assertClose, compiled, eager, evaluate, floats, randomFloats, randomVariable } from "../../../support.ts";

const ENGINES = { compiled, eager };
const VECTOR = { x: { shape: [3], dtype: "float32" } } as const;

/** sum(w x x) over one weight vector; d/dw = x x. */
function weighted() {
  const w = randomVariable("w", [3]);
  const body = ({ x }: { x: tf.Tensor }) => tf.sum(tf.mul(w.value, tf.square(x)));
  return { w, body, options: { variables: [w], inputs: VECTOR } };
}

test("an engine describes itself", async () => {
  assert.match(compiled.description, /^cpu, compiled \(onnxruntime \d+\.\d+\.\d+, 2 threads\)$/);
  assert.match((await createEngine({ compile: true, threads: 1 })).description, /1 thread\)$/);
  assert.match(eager.description, /^eager \(/);
  assert.ok((await createEngine({ compile: true, threads: 0 })).threads >= 1);
});

for (const [kind, engine] of Object.entries(ENGINES)) {
  test(`${kind}: value and gradients; later runs see new inputs and new weights`, async () => {
    const { w, body, options } = weighted();
    const program = await engine.program(body, { ...options, gradients: true });
    for (let round = 0; round < 3; round++) {
      w.data.set(randomFloats(`weights ${round}`, [3]));
      const x = randomFloats(`x ${round}`, [3]);
      const [value] = await program.run({ x });
      const squares = [...x].map((number) => number * number);
      const expected = squares.reduce((sum, square, i) => sum + square * w.data[i]!, 0);
      assertClose([value!], [expected], { atol: 1e-5, label: `value ${round}` });
      assertClose(w.grad!, squares, { atol: 1e-6, label: `gradient ${round}` });
    }
    await program.dispose();
  });

  test(`${kind}: accumulate adds to the gradients, without it they are replaced`, async () => {
    const { w, body, options } = weighted();
    const replacing = await engine.program(body, { ...options, gradients: true });
    const adding = await engine.program(body, { ...options, gradients: true, accumulate: true });
    const run = (program: typeof adding, ...x: number[]) => program.run({ x: Float32Array.from(x) });
    await run(adding, 1, 2, 3);
    assert.deepEqual([...w.grad!], [1, 4, 9]);
    const [value] = await run(adding, 1, 1, 1);
    assertClose([value!], [w.data.reduce((sum, weight) => sum + weight, 0)], { atol: 1e-6, label: "value" });
    assert.deepEqual([...w.grad!], [2, 5, 10]);
    await run(adding, 0, 1, 0);
    assert.deepEqual([...w.grad!], [2, 6, 10]);
    await run(replacing, 1, 0, 0);
    assert.deepEqual([...w.grad!], [1, 0, 0]);
    w.grad!.fill(0);
    await run(adding, 0, 0, 2);
    assert.deepEqual([...w.grad!], [0, 0, 4]);
    await Promise.all([replacing.dispose(), adding.dispose()]);
  });

  test(`${kind}: two programs share weights; the one without gradients leaves gradients alone`, async () => {
    const { w, body, options } = weighted();
    const backward = await engine.program(body, { ...options, gradients: true });
    const forward = await engine.program(({ x }) => tf.add(w.value, x), options);
    const x = Float32Array.of(1, 2, 3);
    await backward.run({ x });
    w.data.set([10, 20, 30]);
    assert.deepEqual([...(await forward.run({ x }))], [11, 22, 33]);
    assert.deepEqual([...w.grad!], [1, 4, 9]);
    assert.deepEqual([...(await backward.run({ x }))], [10 + 80 + 270]);
    await backward.dispose();
    assert.deepEqual([...(await forward.run({ x }))], [11, 22, 33], "disposing one leaves the other");
    await forward.dispose();
  });

  test(`${kind}: an input of another length is refused, with both lengths`, async () => {
    const { body, options } = weighted();
    const program = await engine.program(body, options);
    for (const length of [0, 2, 4]) {
      await assert.rejects(
        program.run({ x: new Float32Array(length) }),
        (error) => error instanceof EngineError && error.message.includes(`x [3] (3 numbers) and got ${length}`),
      );
    }
    assert.equal((await program.run({ x: new Float32Array(3) })).length, 1, "it still runs");
    await program.dispose();
  });

  test(`${kind}: dropout masks depend on the key, the place and nothing else`, async () => {
    const program = await engine.program(
      (_: Record<string, tf.Tensor>, rng: DropoutRng) =>
        tf.cast(tf.concat([rng.keep([64], 0.5), tf.reshape(rng.keep([8, 8], 0.5), [64])]), "float32"),
      { variables: [], inputs: {} },
    );
    const draw = async (...dropout: number[]) => [...(await program.run({}, { dropout }))];
    const first = await draw(1, 7, 0);
    assert.notDeepEqual(first.slice(0, 64), first.slice(64), "two places, two masks");
    assert.notDeepEqual(await draw(1, 8, 0), first);
    assert.notDeepEqual(await draw(2, 7, 0), first);
    assert.notDeepEqual(await draw(1, 7, 1), first);
    assert.deepEqual(await draw(1, 7, 0), first);
    const kept = first.reduce((sum, keep) => sum + keep, 0);
    assert.ok(kept > 40 && kept < 88, `${kept} of 128 kept at rate 0.5`);
    await program.dispose();
  });
}

test("eager and compiled draw the same masks, of every shape and rate", async () => {
  const operation = (_: tf.Tensor[], rng: DropoutRng) => [
    ...[rng.keep([5], 0.3), rng.keep([2, 3, 7], 0.8), rng.keep([1], 0.5)],
    ...[rng.integers([4, 2], 20), rng.integers([3], 1)],
  ];
  for (const dropout of [[], [1, 2, 3], [-5]]) {
    const options = { gradients: false, dropout };
    const args = [floats("unused", [1])];
    const expected = await evaluate(eager, operation, args, options);
    assert.deepEqual((await evaluate(compiled, operation, args, options)).values, expected.values);
  }
});

test("the body is called once when compiled, at every run when eager", async () => {
  for (const [kind, calls] of [
    ["compiled", 1],
    ["eager", 3],
  ] as const) {
    let count = 0;
    const body = ({ x }: { x: tf.Tensor }) => {
      count++;
      return tf.neg(x);
    };
    const program = await ENGINES[kind].program(body, { variables: [], inputs: VECTOR });
    for (let i = 0; i < 3; i++) await program.run({ x: new Float32Array(3) });
    assert.equal(count, calls, kind);
    await program.dispose();
  }
});

test("integer inputs; scalars; an input that nothing uses", async () => {
  for (const engine of Object.values(ENGINES)) {
    const w = randomVariable("w", []);
    w.data[0] = 2;
    const program = await engine.program(({ ids }) => tf.mul(tf.cast(ids, "float32"), w.value), {
      variables: [w],
      inputs: { ids: { shape: [2, 2], dtype: "int32" }, unused: { shape: [2], dtype: "float32" } },
    });
    const run = program.run({ ids: Int32Array.of(1, -2, 3, 2_000_000), unused: new Float32Array(2) });
    assert.deepEqual([...(await run)], [2, -4, 6, 4_000_000]);
    await program.dispose();
  }
});
