// Which test files a command line means, on the repository's own files.

import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import test from "node:test";

import { UserError } from "../lib/common/errors.ts";
import { LONGEST, shareProcesses } from "./processes.ts";
import { ROOT, temporaryFolder } from "./scripts.ts";
import { allTests, SUITES, select, suiteOf } from "./select.ts";

const FOLDER = temporaryFolder();
const selected = (...args: string[]) => select(args).files.map((file) => relative(ROOT, file));
const refused = (args: string[], message: RegExp) =>
  assert.throws(
    () => select(args),
    (error) => error instanceof UserError && message.test(error.message) && !error.message.includes("\n"),
  );

test("without arguments all of them, the whole thing's first and last", () => {
  const files = selected();
  assert.equal(files[0], "quick_test.ts");
  assert.equal(files.at(-1), "test_integration.ts");
  assert.ok(files.includes("tests/tools/serve/distribution.test.ts"));
});

test("every test file is in exactly one suite, and every suite has some", () => {
  const bySuite = SUITES.map((suite) => selected(`--suite=${suite}`));
  for (const files of bySuite) assert.ok(files.length > 1);
  assert.deepEqual(bySuite.flat().sort(), selected().sort());
  assert.equal(new Set(bySuite.flat()).size, allTests().length);
});

test("the longest ones begin first, and every file is run", () => {
  const { entries, shared } = shareProcesses(allTests());
  const began = entries.slice(0, LONGEST.length).map((file) => relative(ROOT, file));
  assert.deepEqual(began, LONGEST);
  const found = [...entries.filter((file) => allTests().includes(file)), ...shared];
  assert.deepEqual(found.sort(), allTests().sort());
});

test("suites: what a run costs; what starts programs, by its imports; the rest", () => {
  const known = {
    unit: ["tests/lib/nn/linear.test.ts", "tests/lib/engine/lower.test.ts", "tests/select.test.ts"], // takes a folder from scripts.ts
    integration: ["quick_test.ts", "tests/train.test.ts", "tests/export_python.test.ts"],
    performance: ["tests/lib/nn/general_attention_cost.test.ts", "tests/lib/bench/bench.test.ts"],
  };
  for (const suite of SUITES) {
    for (const name of known[suite]) assert.equal(suiteOf(join(ROOT, name)), suite, name);
  }
  const several = join(FOLDER, "several.test.ts"); // an import of several lines
  writeFileSync(several, 'import {\n  flags,\n  succeed,\n} from "../scripts.ts";\n');
  assert.equal(suiteOf(several), "integration");
  const comment = join(FOLDER, "comment.test.ts");
  writeFileSync(comment, '// run: import { run } from "./scripts.ts"\nimport { runName } from "./scripts.ts";\n');
  assert.equal(suiteOf(comment), "unit");
});

test("a module: the tests that mirror it, its cost's among them; one without any shares its folder's", () => {
  assert.deepEqual(selected("--module=lib/engine/lower.ts"), ["tests/lib/engine/lower.test.ts"]);
  assert.deepEqual(selected("--module=lib/engine/runtime/program.ts"), [
    "tests/lib/engine/runtime/program.test.ts",
    "tests/lib/engine/runtime/program_cost.test.ts",
  ]);
  assert.ok(selected(`--module=${join(ROOT, "train.ts")}`).includes("tests/train.test.ts"));
  // compare_tiktoken.test.ts mirrors a source file of its own
  assert.deepEqual(selected("--module=lib/bench/compare.ts"), ["tests/lib/bench/compare.test.ts"]);
  assert.deepEqual(selected("--module=data/openwebtext/prepare.ts"), ["tests/data/openwebtext.test.ts"]);
  assert.deepEqual(selected("--module=tools/serve/page.ts"), ["tests/tools/serve.test.ts"]);
});

test("a module that is a folder: all tests below it, and its own", () => {
  const nn = selected("--module=lib/nn/");
  assert.ok(nn.includes("tests/lib/nn/linear.test.ts") && nn.every((name) => name.startsWith("tests/lib/nn/")));
  assert.deepEqual(selected("--module=tools/serve"), [
    "tests/tools/serve.test.ts",
    "tests/tools/serve/distribution.test.ts",
  ]);
  assert.deepEqual(selected("--module=."), selected());
});

test("paths, folders and modules add up, each file once; suites take from them; names go with all", () => {
  assert.deepEqual(
    selected("tests/lib/nn/linear.test.ts", "--module=lib/nn/linear.ts", "--module=lib/engine/lower.ts"),
    ["tests/lib/nn/linear.test.ts", "tests/lib/engine/lower.test.ts"],
  );
  const costs = selected("tests/lib/nn", "--suite=performance");
  assert.ok(
    costs.includes("tests/lib/nn/general_attention_cost.test.ts") &&
      costs.every((path) => path.endsWith("_cost.test.ts")),
  );
  const both = selected("--suite=unit", "--suite=performance");
  assert.equal(both.length, selected("--suite=unit").length + selected("--suite=performance").length);
  assert.deepEqual(select(["--test=a=b c", "--test=d", "tests/lib/nn/linear.test.ts"]).names, ["a=b c", "d"]);
});

test("a file that is no test, a module without one, an unknown suite: one line each", () => {
  mkdirSync(join(FOLDER, "none"));
  refused(["model.ts"], /^model\.ts is not a test file .*--module=model\.ts$/);
  refused(["tests/support.ts"], /not a test file/);
  refused([join(FOLDER, "none")], /no \*\.test\.ts below/);
  refused(["nowhere.test.ts"], /^nowhere\.test\.ts is neither a test file nor --test=NAME, --module=FILE or --suite=/);
  refused(["--tset=x"], /^--tset=x is neither/);
  refused(["--test="], /^--test= is neither/);
  refused(["-t"], /^-t is neither/);
  refused(["--module=nowhere.ts"], /no such file or folder/);
  refused(
    ["--module=lib/settings/show.ts"],
    /^no test mirrors lib\/settings\/show\.ts; it would be tests\/lib\/settings\/show\.test\.ts$/,
  );
  refused(["--module=README.md"], /^no test mirrors README\.md/);
  refused(["--module=tests/train.test.ts"], /not a source file of this repository; a test file is given by its path/);
  refused([`--module=${FOLDER}`], /not a source file of this repository/);
  refused(["--suite=quick"], /^no suite quick; there are unit, integration, performance$/);
  refused(["tests/lib/nn/linear.test.ts", "--suite=integration"], /none of these tests is in the suite integration/);
});
