// lib/common/errors.ts: a user's mistake is one line and exit code 1; a bug keeps its stack.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

import { hasCode, UserError } from "../../../lib/common/errors.ts";
import { assertRefused, launchCommand, ROOT, TSX, temporaryFolder } from "../../scripts.ts";

const ERRORS = pathToFileURL(join(ROOT, "lib", "common", "errors.ts")).href;

/** What a script with this body does. */
function runBody(body: string, env: Record<string, string> = {}) {
  const script = join(temporaryFolder(), "script.mts");
  writeFileSync(script, `import { main, UserError } from "${ERRORS}";\nawait main(async () => { ${body} });\n`);
  return launchCommand(process.execPath, [...TSX, script], { env }).ended;
}

test("a UserError ends a script with its line and exit code 1", async () => {
  const ended = await runBody('console.log("before"); throw new UserError("no dataset here; make one");');
  assertRefused(ended, /^error: no dataset here; make one\n$/);
  assert.equal(ended.stdout, "before\n");
});

test("DEBUG=1 adds the stack", async () => {
  const { code, stderr } = await runBody('throw new UserError("no dataset here");', { DEBUG: "1" });
  assert.match(stderr, /^UserError: no dataset here\n +at .*script\.mts/);
  assert.equal(code, 1);
});

test("every other error is a bug: it keeps its stack and fails", async () => {
  const { code, stderr } = await runBody('throw new TypeError("not a function");');
  assert.match(stderr, /TypeError: not a function\n +at .*script\.mts/);
  assert.equal(code, 1);
});

test("what an error or a line says to a terminal is written out, and a UserError is one line", async () => {
  const evil = '"a\\x1b[2J\\r\\nb"';
  const line = await runBody(`console.log(${evil}); throw new UserError(${evil});`);
  assert.equal(line.stdout, "a\\u001b[2J\nb\n");
  assert.equal(line.stderr, "error: a\\u001b[2J\\nb\n");
  const { stderr } = await runBody(`throw new TypeError(${evil});`);
  assert.match(stderr, /TypeError: a\\u001b\[2J\nb\n +at /);
});

test("a body without an error ends with exit code 0", async () => {
  assert.deepEqual(await runBody(""), { code: 0, signal: null, stdout: "", stderr: "" });
});

test("hasCode is true for that code of a system error only", () => {
  const missing = Object.assign(new Error("missing"), { code: "ENOENT" });
  assert.ok(hasCode(missing, "ENOENT"));
  assert.ok(!hasCode(missing, "EACCES"));
  assert.ok(!hasCode(new UserError("ENOENT"), "ENOENT"));
  assert.ok(!hasCode({ code: "ENOENT" }, "ENOENT"));
  assert.ok(!hasCode(undefined, "ENOENT"));
});
