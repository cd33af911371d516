// All tests, in Node's own runner, and one closing line with their numbers.
//
//   npm test                                   # everything
//   npm test -- tests/train.test.ts tests/nn   # these files and folders
//   npm test -- --module=lib/engine/lower.ts       # the tests of this source file, or of a folder such as lib/engine/
//   npm test -- --suite=unit                   # or integration, performance: select.ts says which test is what
//   npm test -- --test="second Ctrl-C"         # the tests whose name matches

import { availableParallelism } from "node:os";
import { relative, resolve } from "node:path";
import { run } from "node:test";
import { spec } from "node:test/reporters";

import { UserError } from "../lib/common/errors.ts";
import { LOADER, shareProcesses } from "./processes.ts";
import { type Selection, select } from "./select.ts";

const NOT_ASKED_FOR = /test name does not match pattern/; // Node 20 calls those skipped

const { files, names } = selectOrExit();
const { entries, shared } = shareProcesses(files);
process.execArgv = LOADER; // the entries' processes get this one's
const count = { passed: 0, failed: 0, skipped: 0 };
const empty: string[] = [];
const seen = new Set<string>(); // files with tests
// Many of the entries start processes of two threads, and wait a third of the time for a disk, a timer or a signal: on two
// cores three run.
const stream = run({
  files: entries,
  concurrency: 2 + (availableParallelism() >> 1),
  timeout: 900_000, // ms for an entry: one that hangs must not take the others with it, however busy the machine is
  ...(names.length > 0 && { testNamePatterns: names }),
});
stream.on("test:pass", ({ name, skip, todo, details, file }) => {
  seen.add(file ?? "");
  if (details.type === "suite") return;
  if (entries.includes(resolve(name))) {
    // an entry that has tests passes by those alone
    if (names.length === 0 && files.includes(resolve(name))) empty.push(name);
    return;
  }
  if (typeof skip === "string" && NOT_ASKED_FOR.test(skip)) return;
  count[skip === undefined && todo === undefined ? "passed" : "skipped"]++;
});
stream.on("test:fail", ({ name, details, todo, file }) => {
  seen.add(file ?? "").add(resolve(name)); // a file that can't be imported is a test of its name
  if (details.type !== "suite") count[todo === undefined ? "failed" : "skipped"]++;
});
stream.compose(new spec()).pipe(process.stdout);

// written last, whenever the reporter has flushed its summary
process.on("exit", () => {
  if (names.length === 0) empty.push(...shared.filter((file) => !seen.has(file)));
  for (const file of empty) console.error(`error: no test in ${relative("", file)}`);
  const { passed, skipped } = count;
  const failed = count.failed + empty.length;
  if (names.length > 0 && passed + failed + skipped === 0) {
    console.error(`error: no test's name matches ${names.join(" or ")}`);
  }
  if (failed > 0 || passed === 0) process.exitCode = 1;
  console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
});

function selectOrExit(): Selection {
  try {
    return select(process.argv.slice(2));
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    console.error(`error: ${error.message}`);
    process.exit(1);
  }
}
