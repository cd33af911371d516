// lib/common/temporary_folder.ts: whose folders are removed, and when.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { TemporaryFolder } from "../../../lib/common/temporary_folder.ts";
import { temporaryFolder } from "../../scripts.ts";

const TMP = temporaryFolder();
process.env.TMPDIR = TMP;
process.env.TEMP = TMP; // Windows

/** Makes a folder in a process of its own, which then ends by `ending`; its name. */
function madeElsewhere(ending: string): string {
  const file = new URL("../../../lib/common/temporary_folder.ts", import.meta.url).href;
  const body = `const { TemporaryFolder } = await import(${JSON.stringify(file)});
    const { path } = new TemporaryFolder("serve");
    (await import("node:fs")).writeFileSync(path + "/model.onnx", "x");
    (await import("node:fs")).writeSync(1, path);
    ${ending}`;
  const { stdout, stderr } = spawnSync(process.execPath, ["--import", "tsx", "--input-type=module", "-e", body]);
  assert.equal(`${stderr}`, "");
  assert.notEqual(`${stdout}`, "");
  return `${stdout}`;
}

test("a folder is there until it is removed, or its process ends", () => {
  const folder = new TemporaryFolder("model");
  writeFileSync(join(folder.path, "weights.bin"), "x");
  folder.remove();
  assert.equal(existsSync(folder.path), process.platform === "win32");
  assert.ok(!existsSync(madeElsewhere("process.exit(1)")));
});

test("a process that ends while it writes leaves no folder, and prints no stack", () => {
  // files that other threads are opening: some after the folder was listed
  const writes = `const { writeFile } = await import("node:fs");
    for (let i = 0; i < 1000; i++) writeFile(path + "/" + i, "x", () => {});
    setTimeout(() => process.exit(0), 5);`;
  assert.ok(!existsSync(madeElsewhere(writes)));
});

test("what a killed process left goes with the next one; those in use and other programs' stay", () => {
  const mine = new TemporaryFolder("bench");
  const others = ["nanogpt-test-abcdef", "nanogpt-serve-notours", "nanogpt-serve-abcdef"].map((name) =>
    join(TMP, name),
  );
  for (const folder of others) mkdirSync(folder); // the last one as if it was just being made: without a lock
  writeFileSync(join(others[0]!, "lock.json"), "{}");
  const left = madeElsewhere("process.kill(process.pid, 'SIGKILL')");
  assert.deepEqual(readdirSync(left).sort(), ["lock.json", "model.onnx"]);
  const next = new TemporaryFolder("model");
  assert.ok(!existsSync(left));
  for (const folder of [mine.path, ...others, next.path]) assert.ok(existsSync(folder), folder);
  mine.remove();
  next.remove();
});
