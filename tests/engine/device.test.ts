// What the machine is taken for.

import assert from "node:assert/strict";
import { copyFileSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { pathToFileURL } from "node:url";

import * as tf from "@tensorflow/tfjs";

import { defaultThreads, useEagerBackend } from "../../engine/device.ts";
import { ROOT, temporaryFolder } from "../scripts.ts";

test("threads: a whole number between 1 and what the process may use", () => {
  const threads = defaultThreads();
  assert.ok(Number.isInteger(threads) && threads >= 1 && threads <= availableParallelism(), `${threads}`);
});

test("the eager backend says in one line which it is, and computes", async () => {
  const line = await useEagerBackend();
  assert.match(line, /^eager \(.+\)$/);
  assert.ok(["cpu", "tensorflow"].includes(tf.getBackend()));
  assert.deepEqual([...tf.tidy(() => tf.add(1, 2).dataSync())], [3]);
});

test("tfjs-node finds what it calls in node:util on every version of Node", async () => {
  await useEagerBackend();
  type Check = (value: unknown) => boolean;
  const util: { isArray: Check; isNullOrUndefined: Check } = createRequire(import.meta.url)("util");
  assert.deepEqual([[], undefined, null, 0].map(util.isArray), [true, false, false, false]);
  assert.deepEqual([[], undefined, null, 0].map(util.isNullOrUndefined), [false, true, true, false]);
});

/** What useEagerBackend says where these packages, name to source, are all that is installed beside tfjs. */
async function lineWith(packages: Record<string, string>): Promise<string> {
  const folder = temporaryFolder();
  const scope = join(folder, "node_modules/@tensorflow");
  mkdirSync(scope, { recursive: true });
  symlinkSync(join(ROOT, "node_modules/@tensorflow/tfjs"), join(scope, "tfjs"), "junction");
  for (const [name, source] of Object.entries(packages)) {
    mkdirSync(join(scope, name));
    writeFileSync(join(scope, name, "index.js"), source);
  }
  writeFileSync(join(folder, "package.json"), '{ "type": "module" }');
  copyFileSync(join(ROOT, "engine/device.ts"), join(folder, "device.ts"));
  const device = (await import(pathToFileURL(join(folder, "device.ts")).href)) as {
    useEagerBackend(): Promise<string>;
  };
  return await device.useEagerBackend();
}

const BROKEN = "throw new Error('no libtensorflow here\\nsee the manual');";
const WHOLE = `
  const tf = require("@tensorflow/tfjs");
  tf.registerBackend("tensorflow", () => new tf.KernelBackend());`;

test("a package that is installed and does not load is named, with the reason in one line", async () => {
  const lines = {
    none: await lineWith({}),
    broken: await lineWith({ "tfjs-node-gpu": BROKEN }),
    "lacks a part": await lineWith({ "tfjs-node": 'require("no-such-part")' }),
  };
  assert.deepEqual(lines, {
    none: "eager (tfjs' plain CPU backend: no tfjs-node installed)",
    broken: "eager (tfjs' plain CPU backend: @tensorflow/tfjs-node-gpu does not load: no libtensorflow here)",
    "lacks a part":
      "eager (tfjs' plain CPU backend: @tensorflow/tfjs-node does not load: Cannot find module 'no-such-part')",
  });
});

test("tfjs-node is taken where tfjs-node-gpu is installed and does not load", async () => {
  // the last test, because it leaves a backend that computes nothing
  const line = await lineWith({ "tfjs-node-gpu": BROKEN, "tfjs-node": WHOLE });
  assert.equal(line, "eager (@tensorflow/tfjs-node)");
});
