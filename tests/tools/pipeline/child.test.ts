// What becomes of signals while a stage's script runs.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { Runner, Stopped } from "../../../tools/pipeline/child.ts";
import { eventually, temporaryFolder } from "../../scripts.ts";

test("a signal and its echoes are one: answered at once, passed on once; another one later ends the script", async () => {
  const log = join(temporaryFolder(), "log");
  const said: string[] = [];
  let clock = 0; // ms
  let bars = 0;
  const runner = new Runner(
    (line) => said.push(line),
    () => clock,
  );
  const arrived = (line: string) =>
    eventually(() => existsSync(log) && readFileSync(log, "utf8").includes(`\n${line}\n`), line);
  const ended = runner.run(join("tests", "fixtures", "stubborn.ts"), [], {
    log,
    bar: { stop: () => bars++ },
  });
  await arrived("ready");
  for (clock of [0, 30, 60, 200]) process.emit("SIGINT", "SIGINT"); // the terminal's, npm's and tsx' two
  assert.deepEqual(said, ["SIGINT: waiting for the stage to stop; once more ends it at once"]);
  assert.equal(bars, 1);
  await arrived("heard");
  clock = 2000;
  process.emit("SIGINT", "SIGINT");
  await assert.rejects(ended, (error) => error instanceof Stopped && error.signal === "SIGINT");
  assert.equal(said.length, 1);
  assert.match(readFileSync(log, "utf8"), /^\$ npx tsx tests\/fixtures\/stubborn\.ts\nready\nheard\n$/);
  assert.throws(() => runner.check(), Stopped);
  runner.dispose();
  assert.equal(process.listenerCount("SIGINT"), 0);
});
