// The measured peak is a peak: what a machine does when nobody else has it, however seldom that is. On machines that are
// made up and whose clock stands still but for products; and once on the real one, where any rate will do.

import assert from "node:assert/strict";
import test from "node:test";
import { keyOf, uniform } from "../../../../lib/common/rng.ts";
import { measurePeak, Peak } from "../../../../lib/engine/runtime/peak.ts";
import { compiled, eager } from "../../../support.ts";

/** A machine whose products take as long as `msOf` says; also which sizes were tried. */
function machine(msOf: (n: number, count: number) => number) {
  let [clock, count] = [0, 0];
  const sizes: number[] = [];
  let open = 0;
  const make = async (n: number) => {
    sizes.push(n);
    open++;
    return {
      run: async () => {
        clock += msOf(n, count++);
      },
      dispose: async () => {
        open--;
      },
    };
  };
  const measure = () => measurePeak(compiled, make, () => clock);
  return { measure, sizes, now: () => clock, wait: (ms: number) => (clock += ms), open: () => open };
}

/** ms for a product at `gflops`, with a start that counts for small ones. */
const idle = (n: number, gflops: number) => 0.02 + (2 * n ** 3) / (gflops * 1e6);
const near = (flops: number, gflops: number) => Math.abs(flops / 1e9 / gflops - 1);

test("an idle machine: its full rate, by a product that is large enough for it, and everything is disposed", async () => {
  for (const [gflops, last] of [
    [0.5, 128],
    [20, 512],
    [200, 1024],
    [3000, 2048],
  ] as const) {
    const { measure, sizes, now, open } = machine((n) => idle(n, gflops));
    const peak = await measure();
    assert.ok(near(peak, gflops) < 0.02, `${peak / 1e9} of ${gflops}`);
    assert.equal(sizes.at(-1), last);
    assert.equal(open(), 0);
    assert.ok(now() < 250, `${now()} ms`);
  }
});

test("a busy machine: one clean product tells the rate, though nearly all are cut off", async () => {
  const key = keyOf("busy");
  // what takes longer than the 2 ms that a program has at a time waits for 20 ms, and one short one in ten does, too
  const { measure } = machine((n, i) => {
    const ms = idle(n, 200);
    return ms + 20 * Math.floor(ms / 2) + (uniform(key, i) < 0.1 ? 20 : 0);
  });
  const peak = await measure();
  assert.ok(near(peak, 200) < 0.05, `${peak / 1e9} of 200`);
});

test("a run that began in a slow minute learns the peak later, and never forgets it", async () => {
  let slow = 3;
  const { measure, wait, now } = machine((n) => slow * idle(n, 300));
  const lines: string[] = [];
  const peak = new Peak(compiled, (line) => lines.push(line), measure, now);
  await peak.lookAgain();
  assert.equal(now(), 0, "the rate has not been requested yet");
  assert.ok(near(await peak.flops(), 100) < 0.02);
  assert.match(lines[0]!, /^peak: (99\.\d|100) GFLOP\/s in a matrix product/);
  slow = 1;
  await peak.lookAgain();
  assert.ok(near(await peak.flops(), 100) < 0.02, "it has just looked");
  wait(60_000);
  await peak.lookAgain();
  assert.ok(near(await peak.flops(), 300) < 0.02);
  assert.match(lines[1]!, /^peak: (29\d|300) GFLOP\/s, now that/);
  slow = 5;
  const before = await peak.flops();
  wait(60_000);
  await peak.lookAgain();
  assert.equal(await peak.flops(), before);
  assert.equal(lines.length, 2);
});

test("the engines here have a peak that some processor could have; the compiled one is not below the plain one", async () => {
  const [fast, plain] = [await measurePeak(compiled), await measurePeak(eager)];
  for (const peak of [fast, plain]) assert.ok(peak > 1e6 && peak < 1e14, `${peak}`);
  // libtensorflow's products are as fast as ours; a busy machine halves either
  assert.ok(fast > plain / 4, `compiled ${fast}, plain ${plain}`);
});
