// What the comparison says where it can't be made. It is made by hand: it needs a Python with tiktoken.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { assertRefused, madeUpText, run, temporaryFolder } from "../../scripts.ts";

const SCRIPT = "tools/compare/compare_tiktoken.ts";

test("what is missing is said in one line", async () => {
  const text = join(temporaryFolder(), "a.txt");
  writeFileSync(text, madeUpText(1000));
  const cases: [string[], RegExp][] = [
    [[], /--text=FILE is missing/],
    [[`--text=${text}`, "--data_mb=0.1", "--python=no-such-python"], /--python=no-such-python does not start/],
    // a program that is no Python ends at once
    [[`--text=${text}`, "--data_mb=0.1", `--python=${process.execPath}`], /tiktoken did not run with --python=/],
  ];
  for (const [args, pattern] of cases) assertRefused(await run(SCRIPT, args), pattern);
});
