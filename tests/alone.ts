// Runs each test alone, in its own process: a test that depends on an earlier one of its file fails here.
//
//   npx tsx tests/alone.ts                  # all files: about 1,100 starts
//   npx tsx tests/alone.ts tests/lib/bench  # of these files and folders

import { availableParallelism } from "node:os";
import { relative } from "node:path";
import { run } from "node:test";

import { main, UserError } from "../lib/common/errors.ts";
import { LOADER } from "./processes.ts";
import { select } from "./select.ts";

interface Result {
  name: string; // of a test at a file's top
  passed: boolean;
}

/** What the runner says of a test. */
interface Told {
  name: string;
  nesting: number;
  skip?: string | boolean;
  details: { type?: string };
}

/** Run a file's tests, or those of one name. */
async function resultsOf(file: string, name?: string): Promise<Result[]> {
  const pattern =
    name === undefined ? {} : { testNamePatterns: [`/^${name.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&")}$/`] };
  const stream = run({ files: [file], timeout: 900_000, ...pattern });
  const results: Result[] = [];
  const keep = (passed: boolean) => (event: Told) => {
    const { name, nesting, skip, details } = event;
    if (nesting === 0 && skip === undefined && details.type !== "suite" && name !== file)
      results.push({ name, passed });
  };
  stream.on("test:pass", keep(true)).on("test:fail", keep(false)).resume();
  await new Promise((end) => stream.on("end", end));
  return results;
}

async function alone(file: string): Promise<string[]> {
  const failed: string[] = [];
  for (const { name, passed } of await resultsOf(file)) {
    const [result, ...more] = passed ? await resultsOf(file, name) : [];
    if (!passed) failed.push(`${name} (with the others, too)`);
    else if (more.length > 0) failed.push(`${name} (the name of ${more.length + 1} tests)`);
    else if (!result?.passed) failed.push(name);
  }
  return failed;
}

await main(async () => {
  process.execArgv = LOADER; // the tests' processes get this one's
  const { files } = select(process.argv.slice(2));
  const waiting = [...files];
  let wrong = 0;
  const workers = Array.from({ length: Math.max(2, availableParallelism() >> 1) }, async () => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      const failed = await alone(file);
      wrong += failed.length;
      const text = failed.length === 0 ? "each passes alone" : ["", ...failed].join("\n  ✖ ");
      console.log(`${relative("", file)}: ${text}`);
    }
  });
  await Promise.all(workers);
  if (wrong > 0) throw new UserError(`${wrong} tests fail alone`);
});
