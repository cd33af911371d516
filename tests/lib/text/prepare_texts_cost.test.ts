// Memory does not grow with a text: a process that may not hold one prepares it.

import assert from "node:assert/strict";
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import { ROOT, TSX } from "../../../lib/common/scripts.ts";
import { launchCommand, temporaryFolder } from "../../scripts.ts";

test("64 MB of text become characters in a heap of 40 MB", async () => {
  const folder = temporaryFolder();
  const file = openSync(join(folder, "in.txt"), "w");
  const part = "every line of it is the same, but for its length\n".repeat(21_400);
  for (let i = 0; i < 64; i++) writeSync(file, part);
  closeSync(file);
  const script = join(ROOT, "data/shakespeare_char/prepare.ts");
  const command = [...TSX, "--max-old-space-size=40", script, "--input=in.txt", "--out=made"];
  const { code, stderr } = await launchCommand(process.execPath, command, { cwd: folder }).ended;
  assert.equal(code, 0, stderr.slice(0, 2000));
  const { source } = JSON.parse(readFileSync(join(folder, "made", "meta.json"), "utf8"));
  assert.equal(source.characters, 64 * part.length);
});
