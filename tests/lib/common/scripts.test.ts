// Scripts as processes: what reaches them, what is heard of them, and commands that a shell takes as they were meant.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { test } from "node:test";

import { commandOf, endOf, errorLine, ROOT, shellWords, startScript } from "../../../lib/common/scripts.ts";
import { temporaryFolder } from "../../scripts.ts";

const FOLDER = temporaryFolder();

function script(name: string, text: string): string {
  writeFileSync(join(FOLDER, name), text);
  return relative(ROOT, join(FOLDER, name));
}

test("a script gets its arguments and Node's flags, but no settings from the environment", async (t) => {
  const given = { NANOGPT_N_LAYER: "3", NANOGPT_ENV: "testing", NANOGPT_PYTHON: "python9", OTHER: "kept" };
  Object.assign(process.env, given);
  t.after(() => {
    for (const key of Object.keys(given)) delete process.env[key];
  });
  const names = Object.keys(given).map((key) => `process.env.${key}`);
  const path = script("tell.ts", `console.log(JSON.stringify([${names}, typeof gc, ...process.argv.slice(2)]));`);
  const { stdout, code } = await endOf(startScript(path, ["--a b"], { stdio: "pipe" }, ["--expose-gc"]));
  // which Python there is belongs to the machine: train.ts needs it for wandb
  assert.deepEqual(JSON.parse(stdout), [null, null, "python9", "kept", "function", "--a b"]);
  assert.equal(code, 0);
});

test("its end is told with what it printed, part by part before", async () => {
  const path = script("fail.ts", 'console.log("done"); console.error("warning\\nerror: no text"); process.exit(3);');
  const parts = { stdout: "", stderr: "" };
  const ended = await endOf(startScript(path, [], { stdio: "pipe" }), (part, from) => {
    parts[from] += part;
  });
  assert.deepEqual(ended, { code: 3, signal: null, stdout: "done\n", stderr: "warning\nerror: no text\n" });
  assert.deepEqual(parts, { stdout: ended.stdout, stderr: ended.stderr });
  assert.equal(errorLine(ended.stderr), "no text");
  assert.equal(errorLine("an error: none"), undefined);
});

test("a shell takes the words as they were", { skip: process.platform === "win32" }, () => {
  const words = ["--start=O Romeo's", "--out_dir=out-my", "$HOME", "a;b", "", "é\n", "--stop=,"];
  const { stdout } = spawnSync("sh", ["-c", `printf '%s\\0' ${shellWords(words)}`], { encoding: "utf8" });
  assert.deepEqual(stdout.split("\0").slice(0, -1), words);
  assert.equal(commandOf("train.ts", ["--n_layer=2", "--x=a b"]), "npx tsx train.ts --n_layer=2 '--x=a b'");
});
