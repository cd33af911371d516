// tools/prepare.ts, and what npm makes of the script of that name: nothing may happen at an installation.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import {
  assertRefused,
  assertSucceeded,
  launchCommand,
  madeUpText,
  oneProcess,
  ROOT,
  run,
  succeed,
  temporaryFolder,
} from "../scripts.ts";

const FOLDER = temporaryFolder();
const runHere = oneProcess();
const { scripts } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));

test("a dataset's name runs its script with the other flags", async () => {
  writeFileSync(join(FOLDER, "text.txt"), madeUpText(1000));
  const args = ["shakespeare_char", "--input=text.txt", "--out=words"];
  assert.match(await succeed("tools/prepare.ts", args, { cwd: FOLDER }), /^train\.bin: +900 tokens$/m);
  assert.deepEqual(readdirSync(join(FOLDER, "words")).sort(), ["meta.json", "train.bin", "val.bin"]);
  assert.match(await succeed("tools/prepare.ts", ["shakespeare", "--help"]), /data\/shakespeare\/prepare\.ts .*--key=/);
  assertRefused(await run("tools/prepare.ts", ["shakespeare", "--x=1"]), /unknown key "x"/);
});

test("without a name, or with one that isn't there, the datasets are listed", async () => {
  const listed = assertSucceeded(await runHere("tools/prepare.ts", []), "tools/prepare.ts");
  assert.match(listed, /^usage: npm run prepare -- DATASET .*\ndatasets: .*shakespeare_char\n$/);
  assert.equal(assertSucceeded(await runHere("tools/prepare.ts", ["--help"]), "--help"), listed);
  assertRefused(
    await runHere("tools/prepare.ts", ["hamlet"]),
    /no dataset "hamlet" to prepare; there are: .*shakespeare_char/,
  );
});

test("npm: the script does nothing at an installation, even where nothing is installed, and passes arguments on else", async () => {
  const manifest = { name: "x", version: "1.0.0", scripts: { prepare: scripts.prepare } };
  writeFileSync(join(FOLDER, "package.json"), JSON.stringify(manifest));
  const env = { npm_config_offline: "true", npm_config_update_notifier: "false" };
  const inFolder = (...args: string[]) => launchCommand("npm", args, { cwd: FOLDER, env }).ended;
  for (const args of [["install"], ["ci"]]) {
    const { code, stdout, stderr } = await inFolder(...args);
    assert.equal(code, 0, stdout + stderr);
    assert.doesNotMatch(stdout + stderr, /usage|rror/);
  }
  const listed = execFileSync("npm", ["run", "--silent", "prepare"], { cwd: ROOT, encoding: "utf8", stdio: "pipe" });
  assert.match(listed, /^usage: npm run prepare/);
});
