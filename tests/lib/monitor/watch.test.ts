// lib/monitor/watch.ts: the order of callbacks, what happens when one throws, their state, and files of a user's own.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { UserError } from "../../../lib/common/errors.ts";
import type { Callback, StepEvent } from "../../../lib/monitor/callback.ts";
import { earlyStop } from "../../../lib/monitor/early_stop.ts";
import { stability } from "../../../lib/monitor/stability.ts";
import { CallbackError, loadCallback, Watch } from "../../../lib/monitor/watch.ts";
import { temporaryFolder } from "../../scripts.ts";
import { userError } from "../text/support.ts";
import { fakeRun } from "./support.ts";

const FOLDER = temporaryFolder();
const event = (iter = 3): StepEvent => ({ iter, metrics: { loss: 1 }, gradScale: 1, histograms: new Map() });

test("callbacks are called in their order and waited for; a later one sees what an earlier one added", async () => {
  const said: string[] = [];
  const slow: Callback = {
    name: "slow",
    async onStep({ metrics }) {
      await new Promise((resolve) => setTimeout(resolve, 5));
      metrics.extra = 7;
      said.push("slow");
    },
  };
  const writer: Callback = { name: "writer", onStep: ({ metrics }) => void said.push(`writer ${metrics.extra}`) };
  await new Watch([slow, writer], () => {}).onStep(event());
  assert.deepEqual(said, ["slow", "writer 7"]);
});

test("one that may fail is named once and left out from then on", async () => {
  const lines: string[] = [];
  let [calls, others] = [0, 0];
  const broken: Callback = {
    name: "broken",
    onError: "continue",
    onStep() {
      calls++;
      throw new Error("no\n  space");
    },
    onTrainEnd: () => void calls++,
  };
  const watch = new Watch([broken, { name: "other", onStep: () => void others++ }], (line) => lines.push(line));
  await watch.onTrainStart((await fakeRun()).run);
  await watch.onStep(event(3));
  await watch.onStep(event(4));
  await watch.onTrainEnd({ iter: 5, reason: "finished" });
  assert.deepEqual(lines, ["callback broken failed in onStep at step 3: no space; training continues without it"]);
  assert.deepEqual([calls, others], [1, 2]);
});

test("any other one ends the run with one line that names it; all still hear of the end", async () => {
  let ends = 0;
  const callbacks: Callback[] = [
    {
      name: "mine",
      onStep: () => Promise.reject(new Error("oh")),
      onTrainEnd: () => void ends++,
    },
    {
      name: "second",
      onTrainEnd() {
        throw new Error("late");
      },
    },
    { name: "third", onTrainEnd: () => void ends++ },
  ];
  const watch = new Watch(callbacks, () => {});
  await watch.onTrainStart((await fakeRun()).run);
  await assert.rejects(watch.onStep(event()), (error) => {
    assert.ok(error instanceof CallbackError && error instanceof UserError);
    assert.equal(error.message, "callback mine failed in onStep at step 3: oh");
    assert.equal((error.cause as Error).message, "oh");
    return true;
  });
  await assert.rejects(watch.onTrainEnd({ iter: 4, reason: "failed" }), /callback second failed in onTrainEnd/);
  assert.equal(ends, 1);
});

test("states go by name; a callback that has none in the checkpoint starts anew", () => {
  const counter = (name: string) => {
    let count = 0;
    const callback: Callback = {
      name,
      onStep: () => void count++,
      state: () => count,
      restore(state) {
        count = Number(state);
      },
    };
    return callback;
  };
  const watch = new Watch([counter("a"), { name: "stateless" }, counter("b")], () => {});
  watch.restore({ a: 5, gone: 1 });
  assert.deepEqual(watch.state(), { a: 5, b: 0 });
});

test("a state that is damaged is one line that names the callback and the file", () => {
  const stable = stability({ lr_patience: 0, lr_factor: 0.5, spike_threshold: 0, rollback: false });
  const watch = new Watch([stable, earlyStop({ patience: 3 })], () => {});
  const states = { stability: { scale: 1, waited: 0, last: -1, rolled_back: 0, losses: [] } };
  watch.restore(states);
  for (const [name, bad] of [
    ["early_stop", null],
    ["early_stop", { waited: "a\nb" }],
    ["stability", { ...states.stability, losses: [null] }],
  ] as const) {
    assert.throws(
      () => watch.restore({ ...states, [name]: bad }),
      userError(new RegExp(`^ckpt\\.json: callbacks\\.${name} is not what this callback keeps there`)),
    );
  }
});

test("two of one name are refused", () => {
  assert.throws(() => new Watch([{ name: "a" }, { name: "a" }], () => {}), UserError);
});

test("a user's file: an object, or a function of the settings; anything else is one line", async () => {
  const file = (name: string, text: string) => {
    const path = join(FOLDER, name);
    writeFileSync(path, text);
    return path;
  };
  const object = await loadCallback(file("object.ts", "export default { onStep(): void {} }"), {});
  assert.equal(object.name, "object.ts");
  const made = await loadCallback(
    file("made.mjs", "export default async (config) => ({ name: 'for ' + config.n_layer, onTrainEnd() {} })"),
    { n_layer: 3 },
  );
  assert.equal(made.name, "for 3");
  const refuse = async (path: string, message: RegExp) =>
    assert.rejects(loadCallback(path, {}), (error) => {
      assert.ok(error instanceof UserError, String(error));
      assert.match(error.message, message);
      assert.doesNotMatch(error.message, /\n/);
      return true;
    });
  await refuse(join(FOLDER, "none.ts"), /^no file .*none\.ts, which --callbacks names/);
  await refuse(file("empty.ts", "export default {}"), /exports no callback: .*onTrainStart, onStep/);
  await refuse(file("misspelt.ts", "export default { onstep() {} }"), /exports no callback/);
  await refuse(file("named.ts", "export const callback = { onStep() {} }"), /exports no callback/);
  await refuse(file("broken.ts", "export default {\n"), /broken\.ts can't be loaded: /);
  await refuse(file("throws.ts", "throw new Error('two\\nlines')"), /throws\.ts can't be loaded: two lines/);
});

test("a callback that fails at the start ends the run before its first step, or is left out", async () => {
  const { run, asked } = await fakeRun();
  const fails = (onError: "stop" | "continue"): Callback => ({
    name: onError,
    onError,
    onTrainStart() {
      throw new Error("not here");
    },
    onStep() {
      throw new Error("never called");
    },
  });
  const watch = new Watch([fails("continue")], run.log);
  await watch.onTrainStart(run);
  await watch.onStep(event());
  assert.equal(asked.lines.length, 1);

  let ends = 0;
  const stopped = new Watch([fails("stop"), { name: "later", onTrainEnd: () => void ends++ }], run.log);
  await assert.rejects(stopped.onTrainStart(run), /callback stop failed in onTrainStart/);
  await stopped.onTrainEnd({ iter: 0, reason: "failed" });
  assert.equal(ends, 0, "one that was never started has nothing to end");
});
