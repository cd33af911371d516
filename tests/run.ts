// All tests, in Node's own runner, and one closing line with their numbers.
//
//   npm test                                   # everything
//   npm test -- tests/train.test.ts            # these files
//   npm test -- --test="second Ctrl-C"         # the tests whose name matches

import { existsSync, readdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join, resolve } from "node:path";
import { run } from "node:test";
import { spec } from "node:test/reporters";
import { fileURLToPath } from "node:url";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const NOT_ASKED_FOR = /test name does not match pattern/; // Node 20 calls those skipped

const paths = process.argv.slice(2).filter((arg) => !arg.startsWith("--"));
const options = process.argv.slice(2).filter((arg) => arg.startsWith("--"));
const names = options.map((option) => /^--test=(.+)$/.exec(option)?.[1]);
const unknown = options.find((_, i) => names[i] === undefined) ?? paths.find((path) => !existsSync(path));
if (unknown !== undefined) {
  console.error(`error: ${unknown} is neither a test file nor --test=NAME`);
  process.exit(1);
}

const files = paths.length > 0 ? paths.map((path) => resolve(path)) : allTests();
const count = { passed: 0, failed: 0, skipped: 0 };
// The files' processes get this one's Node flags, tsx among them. Many of them start processes of two threads and
// measure time, so only every fourth core gets a file.
const stream = run({
  files,
  concurrency: Math.max(1, availableParallelism() >> 2),
  timeout: 300_000, // ms for a file: one that hangs must not take the others with it
  ...(names.length > 0 && { testNamePatterns: names as string[] }),
});
stream.on("test:pass", ({ name, skip, todo, details }) => {
  if (details.type === "suite" || files.includes(name)) return; // a file counts only where it broke
  if (typeof skip === "string" && NOT_ASKED_FOR.test(skip)) return;
  count[skip === undefined && todo === undefined ? "passed" : "skipped"]++;
});
stream.on("test:fail", ({ details, todo }) => {
  if (details.type !== "suite") count[todo === undefined ? "failed" : "skipped"]++;
});
stream.compose(new spec()).pipe(process.stdout);

// written last, whenever the reporter has flushed its summary
process.on("exit", () => {
  const { passed, failed, skipped } = count;
  if (failed > 0 || passed === 0) process.exitCode = 1;
  console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
});

/** Every *.test.ts below tests/, and the two at the top; the quickest first. */
function allTests(): string[] {
  const below = readdirSync(join(ROOT, "tests"), { recursive: true, encoding: "utf8" });
  const tests = below.filter((name) => name.endsWith(".test.ts")).sort();
  return ["quick_test.ts", ...tests.map((name) => join("tests", name)), "test_integration.ts"].map((name) =>
    join(ROOT, name),
  );
}
