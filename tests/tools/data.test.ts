// tools/data.ts: a dataset's prepare script by its name.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import { assertRefused, madeUpText, ROOT, run, succeed, temporaryFolder } from "../scripts.ts";

const FOLDER = temporaryFolder();

test("a dataset's name runs its script with the other flags", async () => {
  writeFileSync(join(FOLDER, "text.txt"), madeUpText(1000));
  const args = ["shakespeare_char", "--input=text.txt", "--out=words"];
  assert.match(await succeed("tools/data.ts", args, { cwd: FOLDER }), /^train\.bin: +900 tokens$/m);
  assert.deepEqual(readdirSync(join(FOLDER, "words")).sort(), ["meta.json", "train.bin", "val.bin"]);
  assert.match(await succeed("tools/data.ts", ["shakespeare", "--help"]), /data\/shakespeare\/prepare\.ts .*--key=/);
  assertRefused(await run("tools/data.ts", ["shakespeare", "--x=1"]), /unknown key "x"/);
});

test("without a name, or with one that isn't there, the datasets are listed", async () => {
  const listed = await succeed("tools/data.ts", []);
  assert.match(listed, /^usage: npm run data -- DATASET .*\ndatasets: .*shakespeare_char\n$/);
  assert.equal(await succeed("tools/data.ts", ["--help"]), listed);
  assertRefused(
    await run("tools/data.ts", ["hamlet"]),
    /no dataset "hamlet" to prepare; there are: .*shakespeare_char/,
  );
});

test("npm runs it by that name, and nothing of ours at an installation", () => {
  const listed = execFileSync("npm", ["run", "--silent", "data"], { cwd: ROOT, encoding: "utf8", stdio: "pipe" });
  assert.match(listed, /^usage: npm run data/);
  const { scripts } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  for (const name of Object.keys(scripts)) assert.doesNotMatch(name, /^(pre|post)?(install|prepare|publish|pack)/);
});
