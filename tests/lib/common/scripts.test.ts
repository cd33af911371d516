// Commands that a shell takes as they were meant, and the loader of child processes.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";

import { commandOf, otherLoader, shellWords } from "../../../lib/common/scripts.ts";

test("a shell takes the words as they were", { skip: process.platform === "win32" }, () => {
  const words = ["--start=O Romeo's", "--out_dir=out-my", "$HOME", "a;b", "", "é\n", "--stop=,"];
  const { stdout } = spawnSync("sh", ["-c", `printf '%s\\0' ${shellWords(words)}`], { encoding: "utf8" });
  assert.deepEqual(stdout.split("\0").slice(0, -1), words);
  assert.equal(commandOf("train.ts", ["--n_layer=2", "--x=a b"]), "npx tsx train.ts --n_layer=2 '--x=a b'");
});

test("children run under tsx, beside whatever else is imported, or under the one other loader", () => {
  const tsx = "file:///x/node_modules/tsx/dist/loader.mjs";
  const [tracer, loader] = ["file:///x/tracer.mjs", "file:///x/tests/loader.mjs"];
  for (const flags of [[], ["--expose-gc"], ["--import", "tsx"], ["--import", tracer, "--import", tsx]]) {
    assert.equal(otherLoader(flags), undefined, flags.join(" "));
  }
  assert.equal(otherLoader(["--expose-gc", "--import", loader]), loader);
  assert.equal(otherLoader(["--import", tracer, "--import", loader]), loader);
  assert.equal(otherLoader(["--import", "./loader.mjs"]), undefined);
});
