// `npm run coverage`: what it takes from the records and demands, and a report whose line numbers are the TypeScript's.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { pathToFileURL } from "node:url";

import { coreShare, ownPart, typesOnly } from "./coverage.ts";
import { ROOT, run, temporaryFolder } from "./scripts.ts";

test("the core's share: its files and folders, by lines, and nothing else", () => {
  const lines = (total: number, covered: number) => ({ lines: { total, covered } });
  const inRoot = (name: string) => join(ROOT, name);
  const summary = {
    total: lines(1000, 0),
    [inRoot("model.ts")]: lines(100, 100),
    [inRoot("lib/engine/lower.ts")]: lines(200, 150),
    [inRoot("data/shakespeare/prepare.ts")]: lines(100, 90),
    [inRoot("tools/export.ts")]: lines(500, 0),
    [inRoot("bench.ts")]: lines(500, 0),
  };
  assert.equal(coreShare(summary), 85);
  assert.equal(coreShare({ total: lines(10, 10) }), undefined);
});

test("a record is reduced to our files, their source maps included", () => {
  const url = (name: string) => pathToFileURL(join(ROOT, name)).href;
  const urls = [url("model.ts"), url("node_modules/zod/index.js"), "node:fs", "file:///elsewhere/model.ts"];
  const maps = Object.fromEntries(urls.map((name) => [name, {}]));
  const part = ownPart({ result: urls.map((name) => ({ url: name })), "source-map-cache": maps });
  assert.deepEqual(part, { result: [{ url: url("model.ts") }], "source-map-cache": { [url("model.ts")]: {} } });
});

/** How often each line of a source was run, by the report; the first line is number 1. */
function countsOf(lcov: string, source: string): Map<number, number> {
  const record = lcov.split("end_of_record").find((text) => text.includes(`SF:${source}\n`)) ?? "";
  return new Map([...record.matchAll(/^DA:(\d+),(\d+)$/gm)].map(([, line, count]) => [Number(line), Number(count)]));
}

test("files of types alone have no line to run", () => {
  const found = typesOnly();
  assert.ok(found.includes("lib/monitor/callback.ts") && found.includes("lib/decoding/decoder.ts"), `${found}`);
  assert.ok(!found.includes("lib/text/text.ts") && found.length < 10, `${found}`);
});

test("a report of two test files: by the lines of the TypeScript, processes of their own included", async () => {
  const cwd = temporaryFolder();
  const args = ["lib/common/errors", "lib/text/text"].map((name) => join(ROOT, "tests", `${name}.test.ts`));
  const { code, stdout, stderr } = await run("tests/coverage.ts", args, { cwd });
  assert.equal(code, 0, stdout + stderr); // far below 90 %: of a part of the tests that isn't demanded
  assert.match(stdout, /^\d+ passed, 0 failed, 0 skipped$/m);
  assert.match(stdout, /^out\/coverage\/index\.html; the core: \d+\.\d\d % of lines$/m);
  assert.ok(existsSync(join(cwd, "out/coverage/index.html")));

  const lcov = readFileSync(join(cwd, "out/coverage/lcov.info"), "utf8");
  const timesRun = (source: string, text: string) => {
    const lines = readFileSync(join(ROOT, source), "utf8").split("\n");
    const counts = countsOf(lcov, source);
    assert.equal(counts.size, lines.length - 1, `${source}: a count for every line`);
    return counts.get(1 + lines.findIndex((line) => line.includes(text)));
  };
  assert.equal(timesRun("lib/common/read_file.ts", "can't be read here"), 0); // neither has such a file
  assert.ok(timesRun("lib/text/text.ts", "const bytes = readBytes(path")! > 0);
  assert.ok(timesRun("lib/common/errors.ts", "process.env.DEBUG")! > 0); // in child processes only
  assert.equal(timesRun("lib/training/ema.ts", "export"), 0); // never loaded
  assert.doesNotMatch(lcov, /^SF:(tests|config|node_modules)\//m);
});
