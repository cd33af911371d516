// Runs off the event loop, cancelled runs, and what ONNX Runtime refuses.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { tf } from "../../../../lib/common/tf.ts";
import { OrtError } from "../../../../lib/engine/runtime/c_api.ts";
import { createEngine } from "../../../../lib/engine/runtime/program.ts";
import { bind, Cancelled, runtimeVersion, Session } from "../../../../lib/engine/runtime/session.ts";
import { temporaryFolder } from "../../../scripts.ts";

const N = 512;
const inputs = { a: { shape: [N, N], dtype: "float32" } } as const;
const engine = await createEngine({ compile: true, threads: 1 });

/** `count` products, one after the other: some 2 ms each. */
function products(count: number, profile?: string) {
  const body = ({ a }: { a: tf.Tensor }) => {
    let x = a;
    for (let i = 0; i < count; i++) x = tf.matMul(x as tf.Tensor2D, a as tf.Tensor2D);
    return x;
  };
  return engine.program(body, { variables: [], inputs, profile });
}

/** The matrix of a cyclic shift by one: its powers are shifts, too, without any rounding. */
const shift = new Float32Array(N * N);
for (let row = 0; row < N; row++) shift[row * N + ((row + 1) % N)] = 1;

function assertShift(result: Float32Array, by: number): void {
  for (let row = 0; row < N; row++) assert.equal(result[row * N + ((row + by) % N)], 1, `row ${row}`);
  assert.equal(
    result.reduce((sum, number) => sum + number),
    N,
  );
}

test("the event loop goes on while a model runs", async () => {
  const program = await products(100);
  let turns = 0;
  const timer = setInterval(() => turns++, 1);
  // where a run blocks it there is no turn between two runs either; a busy machine may give few in one
  for (let runs = 0; turns < 4 && runs < 40; runs++) assertShift(await program.run({ a: shift }), 101);
  clearInterval(timer);
  assert.ok(turns >= 4, `${turns} turns`);
  await program.dispose();
});

test("a run is cancelled between two operators, and the next one is as if nothing had happened", async () => {
  const program = await products(2000);
  const controller = new AbortController();
  const running = program.run({ a: shift }, { signal: controller.signal });
  setTimeout(() => controller.abort(), 10);
  await assert.rejects(running, Cancelled);
  await assert.rejects(program.run({ a: shift }, { signal: controller.signal }), Cancelled); // not even begun
  await program.dispose();

  const short = await products(3);
  const other = new AbortController();
  assertShift(await short.run({ a: shift }, { signal: other.signal }), 4);
  other.abort(); // too late
  assertShift(await short.run({ a: shift }), 4);
  await short.dispose();
});

test("runs with one signal leave no listeners behind", async () => {
  const program = await products(1);
  const { signal } = new AbortController();
  let listeners = 0;
  const [add, remove] = [signal.addEventListener, signal.removeEventListener];
  signal.addEventListener = (...args: Parameters<typeof add>) => {
    listeners++;
    add.apply(signal, args);
  };
  signal.removeEventListener = (...args: Parameters<typeof remove>) => {
    listeners--;
    remove.apply(signal, args);
  };
  for (let i = 0; i < 20; i++) await program.run({ a: shift }, { signal });
  assert.equal(listeners, 0);
  await program.dispose();
});

test("what ONNX Runtime refuses is an OrtError with its code", async () => {
  const refused = (error: unknown) => error instanceof OrtError && Number.isInteger(error.code) && error.code > 0;
  await assert.rejects(Session.create(new Uint8Array(100), { threads: 1 }), refused);
});

test("an array of another size than its shape is refused before a pointer is made of it", () => {
  assert.throws(
    () => bind({ x: { data: new Float32Array(3), shape: [4], dtype: "float32" } }),
    /internal: \[4\].* of 3/,
  );
});

test("a session that runs isn't disposed", async () => {
  const program = await products(100);
  const running = program.run({ a: shift });
  await assert.rejects(program.dispose(), /internal: a session was disposed during a run/);
  await running;
  await program.dispose();
});

test("a profile is written where it was asked for", async () => {
  const folder = temporaryFolder();
  const program = await products(2, join(folder, "profile"));
  await program.run({ a: shift });
  await program.dispose();
  const [name] = readdirSync(folder);
  const events: { name: string }[] = JSON.parse(readFileSync(join(folder, name!), "utf8"));
  assert.ok(events.some((event) => /MatMul.*kernel_time/.test(event.name)));
});

test("the version is that of the package", () => {
  const { version } = JSON.parse(readFileSync("node_modules/onnxruntime-node/package.json", "utf8"));
  assert.equal(runtimeVersion(), version);
});

test("telemetry is off before the library is loaded", () => {
  assert.equal(process.env.ORT_DISABLE_TELEMETRY, "1");
});
