// The runner as a child, on small test files: what it counts, how it closes, how it ends.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import { assertRefused, type Ended, run, temporaryFolder } from "./scripts.ts";

const FOLDER = temporaryFolder();

function fixture(name: string, body: string): string {
  const path = join(FOLDER, `${name}.test.ts`);
  writeFileSync(path, `import { describe, test } from "node:test";\n${body}\n`);
  return path;
}

const passing = fixture("passing", 'test("one", () => {}); describe("more", () => { test("two", () => {}); });');
const mixed = fixture(
  "mixed",
  'test("good", () => {}); test("bad", () => { throw new Error("no"); }); test.skip("later", () => {}); test.todo("some day");',
);
const empty = fixture("empty", "export { describe, test };");
const broken = fixture("broken", 'throw new Error("while loading");');

function closes({ code, stdout, stderr }: Ended, line: string, expected: number): void {
  assert.equal(stdout.trimEnd().split("\n").at(-1), line, stdout + stderr);
  assert.equal(code, expected);
}

test("all passed: exit code 0, suites don't count, and every name is shown", async () => {
  const ended = await run("tests/run.ts", [passing]);
  closes(ended, "2 passed, 0 failed, 0 skipped", 0);
  assert.match(ended.stdout, /✔ one /);
});

test("one failure ends with 1; skipped and to-do tests are told apart from passed ones", async () => {
  const ended = await run("tests/run.ts", [passing, mixed]);
  closes(ended, "3 passed, 1 failed, 2 skipped", 1);
  assert.match(ended.stdout, /✖ bad /);
  assert.match(ended.stdout, /mixed\.test\.ts:/);
});

test("a file without a test, or one that breaks, has not passed", async () => {
  const ended = await run("tests/run.ts", [passing, empty]);
  closes(ended, "2 passed, 1 failed, 0 skipped", 1);
  assert.match(ended.stderr, /^error: no test in .*empty\.test\.ts\n$/);
  closes(await run("tests/run.ts", [empty, empty.replace("empty", "broken")]), "0 passed, 2 failed, 0 skipped", 1);
  closes(await run("tests/run.ts", [broken]), "0 passed, 1 failed, 0 skipped", 1);
});

test("files that share a process: one that breaks is a failure of its name, and the others run", async () => {
  const ended = await run("tests/run.ts", [broken, passing, mixed]);
  closes(ended, "3 passed, 2 failed, 2 skipped", 1);
  assert.match(ended.stdout, /✖ \S*broken\.test\.ts [^✖]*while loading/);
});

test("--test takes the tests of that name; none is no success", async () => {
  closes(await run("tests/run.ts", [passing, mixed, "--test=^good$"]), "1 passed, 0 failed, 0 skipped", 0);
  const none = await run("tests/run.ts", [passing, mixed, "--test=nobody"]);
  closes(none, "0 passed, 0 failed, 0 skipped", 1);
  assert.match(none.stderr, /^error: no test's name matches nobody\n$/);
});

test("alone.ts finds the test that needs an earlier one", async () => {
  const leaning = fixture(
    "leaning",
    'let made = 0; test("makes it", () => { made = 1; }); test("takes it (1)", () => { if (made !== 1) throw new Error("no"); });',
  );
  const { code, stdout, stderr } = await run("tests/alone.ts", [leaning, passing]);
  assert.match(stdout, /leaning\.test\.ts: \n {2}✖ takes it \(1\)\n/);
  assert.match(stdout, /passing\.test\.ts: each passes alone\n/);
  assert.equal(stderr, "error: 1 tests fail alone\n");
  assert.equal(code, 1);
});

test("mistakes are one line, and nothing runs", async () => {
  const ended = await run("tests/run.ts", ["--suite=all", passing]); // select.test.ts has the others
  assertRefused(ended, /no suite all/);
  assert.equal(ended.stdout, "");
});
