// Child processes: what reaches them, what is heard of them, and why they failed.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { test } from "node:test";

import { errorLine, problemOf, startChild, startScript } from "../../../lib/common/child.ts";
import { ROOT } from "../../../lib/common/scripts.ts";
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
  const { stdout, code } = await startScript(path, ["--a b"], {}, ["--expose-gc"]).ended;
  // which Python there is belongs to the machine: train.ts needs it for wandb
  assert.deepEqual(JSON.parse(stdout), [null, null, "python9", "kept", "function", "--a b"]);
  assert.equal(code, 0);
});

test("its end is told with what it printed, part by part before", async () => {
  const path = script("fail.ts", 'console.log("done"); console.error("warning\\nerror: no text"); process.exit(3);');
  const parts = { stdout: "", stderr: "" };
  const ended = await startScript(path, [], {
    onPart(part, from) {
      parts[from] += part;
    },
  }).ended;
  assert.deepEqual(ended, { code: 3, signal: null, stdout: "done\n", stderr: "warning\nerror: no text\n" });
  assert.deepEqual(parts, { stdout: ended.stdout, stderr: ended.stderr });
  assert.equal(errorLine(ended.stderr), "no text");
  assert.equal(errorLine("an error: none"), undefined);
});

test("with a log its output is appended there, and stdout comes in a pipe where that is asked for", async () => {
  const path = script(
    "both.ts",
    'console.log("out"); console.error("TypeError: x is no y\\n    at z"); process.exit(1);',
  );
  const log = join(FOLDER, "log");
  writeFileSync(log, "error: an earlier one\n");
  const end = await startScript(path, [], { log }).ended;
  assert.equal(readFileSync(log, "utf8"), `error: an earlier one\nout\nTypeError: x is no y\n    at z\n`);
  assert.equal(problemOf(end), "TypeError: x is no y");
  assert.equal(end.stdout, "");
  const piped = await startScript(path, [], { log, pipe: "stdout" }).ended;
  assert.deepEqual([piped.stdout, piped.stderr], ["out\n", "TypeError: x is no y\n    at z\n"]);
});

test("why a process failed", async () => {
  const ended = { code: 1, signal: null, stdout: "", stderr: "" };
  assert.equal(problemOf({ ...ended, code: 0, stderr: "error: of a part\n" }), undefined);
  assert.equal(problemOf({ ...ended, stderr: "a warning\nerror: no text\n" }), "no text");
  assert.equal(problemOf({ ...ended, code: 7 }, ", see x.log"), "ended with code 7, see x.log");
  assert.equal(problemOf({ ...ended, code: null, signal: "SIGKILL" }), "ended by SIGKILL");
  await assert.rejects(startChild(join(FOLDER, "none"), []).ended, { code: "ENOENT" });
});
