// lib/common/exchange.ts, and that a reader never finds a folder missing that lib/common/atomic_folder.ts replaces.

import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { writeFolderAtomic } from "../../../lib/common/atomic_folder.ts";
import { exchange } from "../../../lib/common/exchange.ts";
import { temporaryFolder } from "../../scripts.ts";

const FOLDER = temporaryFolder();

function makeFolder(name: string, text: string): string {
  const folder = join(FOLDER, name);
  mkdirSync(folder);
  writeFileSync(join(folder, "file"), text);
  return folder;
}

const textOf = (folder: string) => readFileSync(join(folder, "file"), "utf8");
const can = exchange(makeFolder("a", "1"), makeFolder("b", "2"));
const POSSIBLE = { skip: !can && "this system, or its disk, can't exchange folders" };

test("two folders change places", POSSIBLE, () => {
  assert.deepEqual(
    ["a", "b"].map((name) => textOf(join(FOLDER, name))),
    ["2", "1"],
  );
});

test("nothing changes where one is missing", () => {
  const there = makeFolder("there", "1");
  assert.equal(exchange(there, join(FOLDER, "missing")), false);
  assert.equal(exchange(join(FOLDER, "missing"), there), false);
  assert.equal(textOf(there), "1");
  assert.ok(!existsSync(join(FOLDER, "missing")));
});

test("a folder that is replaced again and again is never missing", POSSIBLE, async () => {
  const target = makeFolder("target", "0");
  const reader = join(FOLDER, "reader.mjs");
  writeFileSync(
    reader,
    `import { readFileSync } from "node:fs";
    let [reads, missing, over] = [0, 0, false];
    process.on("message", () => (over = true));
    process.send("ready");
    (function read() {
      for (let i = 0; i < 100; i++, reads++) try { readFileSync(process.argv[2]); } catch { missing++; }
      if (!over) return setImmediate(read);
      process.send({ reads, missing });
      process.disconnect();
    })();`,
  );
  const child = fork(reader, [join(target, "file")], { execArgv: [] });
  await once(child, "message");
  const kind = { what: "a test", earlier: () => new Set(["file"]), heads: ["file"] };
  for (let time = 1; time <= 100; time++) {
    await writeFolderAtomic(target, kind, (directory) => writeFileSync(join(directory, "file"), String(time)));
  }
  child.send("over");
  const [{ reads, missing }] = await once(child, "message");
  assert.equal(textOf(target), "100");
  assert.ok(reads >= 100);
  assert.equal(missing, 0, `${missing} of ${reads} reads found nothing`);
});
