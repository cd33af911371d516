// Commands that a shell takes as they were meant.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";

import { commandOf, shellWords } from "../../../lib/common/scripts.ts";

test("a shell takes the words as they were", { skip: process.platform === "win32" }, () => {
  const words = ["--start=O Romeo's", "--out_dir=out-my", "$HOME", "a;b", "", "é\n", "--stop=,"];
  const { stdout } = spawnSync("sh", ["-c", `printf '%s\\0' ${shellWords(words)}`], { encoding: "utf8" });
  assert.deepEqual(stdout.split("\0").slice(0, -1), words);
  assert.equal(commandOf("train.ts", ["--n_layer=2", "--x=a b"]), "npx tsx train.ts --n_layer=2 '--x=a b'");
});
