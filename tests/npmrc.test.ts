// .npmrc: what `npm ci` installs, whatever flags a person or a CI gives by habit. Nothing is installed here.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { ROOT, temporaryFolder } from "./scripts.ts";

test("npm ci --omit=optional leaves out no program that our commands run", () => {
  const folder = temporaryFolder();
  for (const file of [".npmrc", "package.json", "package-lock.json"])
    copyFileSync(join(ROOT, file), join(folder, file));
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_config_/i.test(name)));
  const npm = process.platform === "win32" ? "npm.cmd" : "npm";
  const shell = npm.endsWith(".cmd"); // which Windows runs no other way
  const flags = ["ci", "--omit=optional", "--dry-run", "--offline"];
  const { stdout, stderr, status } = spawnSync(npm, flags, { cwd: folder, encoding: "utf8", env, shell });
  assert.equal(status, 0, stderr);
  for (const name of ["@esbuild/", "@biomejs/cli-", "@typescript/typescript-", "@napi-rs/canvas-"]) {
    assert.match(stdout, new RegExp(`^add ${name}${process.platform}-${process.arch}`, "m"));
  }
  assert.doesNotMatch(stderr, /Unknown project config/);
});
