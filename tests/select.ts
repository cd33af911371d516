// Which test files a command line of tests/run.ts asks for: all of them, some by their path, those that mirror a source
// file or a folder (--module), those of a suite (--suite). Leaves out the running.

import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join, relative, resolve, sep } from "node:path";

import { UserError } from "../lib/common/errors.ts";
import { ROOT } from "../lib/common/scripts.ts";

const TESTS = join(ROOT, "tests");
const TOP = ["quick_test.ts", "test_integration.ts"]; // the first and the last one

export const SUITES = ["unit", "integration", "performance"] as const;
export type Suite = (typeof SUITES)[number];

export interface Selection {
  files: string[]; // absolute paths
  names: string[]; // patterns of test names; none for all of them
}

/** Every *.test.ts below tests/, and the two at the top; the quickest first. Absolute paths. */
export function allTests(): string[] {
  return [TOP[0]!, ...testsBelow(TESTS), TOP[1]!].map((name) => resolve(ROOT, name));
}

/**
 * The suite of a test file, by this rule alone: what a step or a run costs in memory, nodes or time is "performance"
 * (*_cost.test.ts, and the tests of the benchmarks in bench/); of the rest, what starts other programs is
 * "integration", as the imports tell; all else is "unit".
 */
export function suiteOf(path: string): Suite {
  if (path.endsWith("_cost.test.ts") || dirname(path) === join(TESTS, "lib", "bench")) return "performance";
  const imports = [...readFileSync(path, "utf8").matchAll(/^import\s+([^;]*?)\s+from\s+"([^"]+)"/gm)];
  const starts = imports.some(([, names = "", from = ""]) => {
    if (from === "node:child_process" || /\/(python|tiny_runs|pipeline\/child)\.ts$/.test(from)) return true;
    return from.endsWith("/scripts.ts") && /\b(run|succeed|launch|launchCommand|oneProcess)\b/.test(names);
  });
  return starts ? "integration" : "unit";
}

/** What the command line's arguments ask for; a UserError where there is no such file, suite, or test of a module. */
export function select(args: readonly string[]): Selection {
  const files: string[] = [];
  const names: string[] = [];
  const suites: string[] = [];
  for (const arg of args) {
    const [, key, value = ""] = /^--([^=]+)=(.+)$/s.exec(arg) ?? [];
    if (key === "test") names.push(value);
    else if (key === "module") files.push(...testsOf(value));
    else if (key === "suite") suites.push(value);
    else if (arg.startsWith("-") || !existsSync(arg)) {
      throw new UserError(
        `${arg} is neither a test file nor --test=NAME, --module=FILE or --suite=${SUITES.join("|")}`,
      );
    } else files.push(...testsAt(arg));
  }
  const unknown = suites.find((name) => !SUITES.some((known) => known === name));
  if (unknown !== undefined) throw new UserError(`no suite ${unknown}; there are ${SUITES.join(", ")}`);
  const asked = files.length > 0 ? [...new Set(files)] : allTests();
  const selected = suites.length > 0 ? asked.filter((file) => suites.includes(suiteOf(file))) : asked;
  if (selected.length === 0) throw new UserError(`none of these tests is in the suite ${suites.join(" or ")}`);
  return { files: selected, names };
}

/** A test file as it is, or all those in a folder. */
function testsAt(path: string): string[] {
  const full = resolve(path);
  if (statSync(full).isDirectory()) {
    const found = full === ROOT ? allTests() : testsBelow(full);
    if (found.length === 0)
      throw new UserError(`no *.test.ts below ${path}; for a folder of sources: --module=${path}`);
    return found;
  }
  if (full.endsWith(".test.ts") || TOP.includes(relative(ROOT, full))) return [full];
  throw new UserError(`${path} is not a test file (*.test.ts); for the tests of a source file: --module=${path}`);
}

/**
 * The tests that mirror a source file or all of a folder: lib/engine/lower.ts has tests/lib/engine/lower.test.ts and
 * tests/lib/engine/lower_*.test.ts; a file without any shares its folder's, as tools/serve/page.ts does tests/tools/serve.test.ts.
 */
function testsOf(module: string): string[] {
  const full = resolve(module);
  if (!existsSync(full)) throw new UserError(`--module=${module}: no such file or folder`);
  const path = relative(ROOT, full);
  if (path.split(sep).includes("..") || path.split(sep)[0] === "tests") {
    throw new UserError(`--module=${module} is not a source file of this repository; a test file is given by its path`);
  }
  const isFolder = statSync(full).isDirectory();
  if (isFolder && path === "") return allTests();
  const found = isFolder
    ? [...testsNamed(path), ...testsBelow(join(TESTS, path))]
    : path.endsWith(".ts")
      ? [path.slice(0, -3), dirname(path)].map(testsNamed).find((tests) => tests.length > 0)
      : undefined;
  if (found && found.length > 0) return found;
  throw new UserError(`no test mirrors ${path}; it would be ${join("tests", path.replace(/\.ts$/, ""))}.test.ts`);
}

/** tests/a/b.test.ts and tests/a/b_*.test.ts for "a/b", without those that mirror another source file, a/b_c.ts. */
function testsNamed(path: string): string[] {
  const folder = join(TESTS, dirname(path));
  if (!existsSync(folder)) return [];
  const own = basename(path);
  const isOurs = (name: string) => {
    const stem = name.replace(/\.test\.ts$/, "");
    if (stem === name) return false;
    return stem === own || (stem.startsWith(`${own}_`) && !existsSync(join(ROOT, dirname(path), `${stem}.ts`)));
  };
  return readdirSync(folder)
    .filter(isOurs)
    .sort()
    .map((name) => join(folder, name));
}

function testsBelow(folder: string): string[] {
  if (!existsSync(folder)) return [];
  const names = readdirSync(folder, { recursive: true, encoding: "utf8" });
  return names
    .filter((name) => name.endsWith(".test.ts") && !name.includes("node_modules"))
    .sort()
    .map((name) => join(folder, name));
}
