// Which lines of our sources the tests run, those of the scripts that tests start as processes of their own included.
//
//   npm run coverage                          # all tests; fails where the core is below 90 % of lines
//   npm run coverage -- --suite=unit          # what tests/run.ts takes; of a part of the tests nothing is demanded
//
// Prints a table and writes out/coverage/index.html, and lcov.info for editors. Leaves out the browser's side of tools/serve/, and processes that are
// killed, for those leave no record.

import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, relative, resolve, sep } from "node:path";
import { pathToFileURL } from "node:url";

import { transformSync } from "esbuild";

import { main, UserError } from "../lib/common/errors.ts";
import { isMain } from "../lib/common/main_module.ts";
import { ROOT } from "../lib/common/scripts.ts";
import { select } from "./select.ts";

const CORE = ["model.ts", "train.ts", "sample.ts", "configurator.ts"];
const ROOMS = ["engine", "training", "nn", "decoding", "formats", "text", "monitor", "common"];
const CORE_FOLDERS = ["data", ...ROOMS.map((room) => `lib/${room}`)];
const LEFT_OUT = [
  "tests/**",
  "config/**",
  "out/**",
  "out-*/**",
  "node_modules/**",
  "quick_test.ts",
  "test_integration.ts",
];
const DEMANDED = 90; // % of the core's lines

/** Of a report's coverage-summary.json: lines by absolute path, and their "total". */
export type Summary = Record<string, { lines: { total: number; covered: number } }>;

/** Files of the core in which nothing is left to run once the types are gone; relative to `root`. */
export function typesOnly(root = ROOT): string[] {
  const names = CORE_FOLDERS.flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: "utf8" }).map((name) => `${folder}/${name}`),
  );
  const isEmpty = (name: string) => transformSync(readFileSync(join(root, name), "utf8"), { loader: "ts" }).code === "";
  return names.filter((name) => name.endsWith(".ts") && isEmpty(name));
}

/** A process' record as V8 wrote it. */
interface Coverage {
  result: { url: string }[];
  "source-map-cache"?: Record<string, unknown>;
}

/** The share of the core's lines that were run, in %; undefined where the summary has none of them. */
export function coreShare(summary: Summary, root = ROOT): number | undefined {
  const sum = { total: 0, covered: 0 };
  for (const [path, { lines }] of Object.entries(summary)) {
    const name = relative(root, path).split(sep).join("/");
    if (!CORE.includes(name) && !CORE_FOLDERS.some((folder) => name.startsWith(`${folder}/`))) continue;
    sum.total += lines.total;
    sum.covered += lines.covered;
  }
  return sum.total === 0 ? undefined : (100 * sum.covered) / sum.total;
}

/** What a record says of our files alone: that of the packages is fifty times as much. */
export function ownPart({ result, "source-map-cache": maps = {} }: Coverage, root = ROOT): Coverage {
  const folder = `${pathToFileURL(root).href}/`;
  const isOurs = (url: string) => url.startsWith(folder) && !url.includes("/node_modules/");
  return {
    result: result.filter(({ url }) => isOurs(url)),
    "source-map-cache": Object.fromEntries(Object.entries(maps).filter(([url]) => isOurs(url))),
  };
}

/** Reduce the folder's new records to our part. One that is still being written is left for the next time. */
function reduce(folder: string, reduced: Set<string>): void {
  for (const name of readdirSync(folder)) {
    if (reduced.has(name)) continue;
    const path = join(folder, name);
    let coverage: Coverage;
    try {
      coverage = JSON.parse(readFileSync(path, "utf8"));
    } catch (error) {
      if (error instanceof SyntaxError) continue;
      throw error;
    }
    writeFileSync(path, JSON.stringify(ownPart(coverage)));
    reduced.add(name);
  }
}

function node(args: string[], env: Record<string, string> = {}): Promise<number> {
  const child = spawn(process.execPath, args, { stdio: "inherit", cwd: ROOT, env: { ...process.env, ...env } });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve(code ?? 1));
  });
}

async function measure(args: readonly string[]): Promise<void> {
  select(args); // a mistake in them is told before anything is removed
  const report = resolve("out", "coverage");
  const records = mkdtempSync(join(tmpdir(), "nanogpt-coverage-"));
  try {
    // 1) the tests; Node has every process below this one write a record when it ends
    const reduced = new Set<string>();
    const timer = setInterval(() => reduce(records, reduced), 2000);
    const code = await node([...process.execArgv, join(ROOT, "tests", "run.ts"), ...args], {
      NODE_V8_COVERAGE: records,
    });
    clearInterval(timer);
    reduce(records, reduced);
    for (const name of readdirSync(records)) if (!reduced.has(name)) rmSync(join(records, name)); // cut off by a kill
    process.exitCode = code;
    if (reduced.size === 0) return;

    // 2) the reports; c8 follows tsx's source maps to the lines of the TypeScript
    rmSync(report, { recursive: true, force: true });
    mkdirSync(report, { recursive: true });
    const c8 = join(dirname(createRequire(import.meta.url).resolve("c8")), "bin", "c8.js");
    const reporters = ["text", "html", "lcovonly", "json-summary"].map((name) => `--reporter=${name}`);
    const folders = [`--temp-directory=${records}`, `--reports-dir=${report}`];
    const sources = [
      "--all",
      "--include=**/*.ts",
      ...[...LEFT_OUT, ...typesOnly()].map((pattern) => `--exclude=${pattern}`),
    ];
    const failed = await node([c8, "report", ...reporters, ...folders, ...sources]);
    if (failed) throw new Error(`c8 ended with ${failed}`);

    // 3) the verdict
    const summary: Summary = JSON.parse(readFileSync(join(report, "coverage-summary.json"), "utf8"));
    const share = coreShare(summary);
    if (share === undefined) throw new Error("internal: no file of the core in the report");
    console.log(`${relative("", join(report, "index.html"))}; the core: ${share.toFixed(2)} % of lines`);
    if (args.length > 0 || share >= DEMANDED) return;
    throw new UserError(`the tests run less than ${DEMANDED} % of the core's lines`);
  } finally {
    rmSync(records, { recursive: true, force: true });
  }
}

if (isMain(import.meta.url)) await main(() => measure(process.argv.slice(2)));
