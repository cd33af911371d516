// lib/common/main_module.ts: a script starts where it is the main module, however its path is written, and not where it is
// imported.

import assert from "node:assert/strict";
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

import { launchCommand, ROOT, TSX, temporaryFolder } from "../../scripts.ts";

const FOLDER = join(temporaryFolder(), "with a space, é and %41");
const HELPER = pathToFileURL(join(ROOT, "lib/common/main_module.ts")).href;
mkdirSync(FOLDER);
writeFileSync(join(FOLDER, "package.json"), JSON.stringify({ type: "module" }));
writeFileSync(
  join(FOLDER, "script.ts"),
  `import { isMain } from "${HELPER}";\nconsole.log(isMain(import.meta.url) ? "started" : "imported");\n`,
);
writeFileSync(join(FOLDER, "other.ts"), `import "./script.ts";\n`);
symlinkSync(join(FOLDER, "script.ts"), join(FOLDER, "link.ts"));
symlinkSync(FOLDER, join(FOLDER, "itself"));

const tsx = createRequire(import.meta.url).resolve("tsx/cli"); // what npx tsx runs
const WAYS: Record<string, string[]> = {
  "npx tsx": [tsx],
  "node --import tsx": TSX,
  "node --preserve-symlinks-main --import tsx": ["--preserve-symlinks-main", ...TSX],
};

for (const [way, flags] of Object.entries(WAYS)) {
  test(`${way}: a script is the main module by its name, its whole path and a symbolic link`, async () => {
    const printed = async (path: string) => {
      const { stdout, stderr } = await launchCommand(process.execPath, [...flags, path], { cwd: FOLDER }).ended;
      assert.equal(stderr, "");
      return stdout;
    };
    const paths = ["script.ts", join(FOLDER, "script.ts"), "link.ts", join("itself", "script.ts")];
    for (const path of paths) assert.equal(await printed(path), "started\n", path);
    assert.equal(await printed("other.ts"), "imported\n");
  });
}

test("tsx runs a script by its name without .ts too", async () => {
  const { stdout } = await launchCommand(process.execPath, [tsx, "script"], { cwd: FOLDER }).ended;
  assert.equal(stdout, "started\n");
});

const inFolder = (folder: string, name: RegExp) =>
  readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
    .filter((file) => name.test(file))
    .map((file) => join(folder, file));
const SCRIPTS = ["train.ts", "sample.ts", "bench.ts"]
  .concat(inFolder("data", /prepare\.ts$/), inFolder("tools", /^\w+\.ts$/))
  .filter((file) => !/(page_server|wat)\.ts$/.test(file));

test("an imported script does nothing, and exports run()", async () => {
  const urls = SCRIPTS.map((script) => pathToFileURL(join(ROOT, script)).href);
  const source = `for (const url of ${JSON.stringify(urls)}) console.log(typeof (await import(url)).run);`;
  const file = join(FOLDER, "all.mjs");
  writeFileSync(file, source);
  const { code, stdout, stderr } = await launchCommand(process.execPath, [...TSX, file], { cwd: FOLDER }).ended;
  assert.equal(stderr, "");
  assert.deepEqual(
    stdout.trimEnd().split("\n"),
    SCRIPTS.map(() => "function"),
  );
  assert.equal(code, 0);
});
