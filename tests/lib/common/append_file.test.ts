// lib/common/append_file.ts: what is written stays findable, whatever becomes of the file's folder.

import assert from "node:assert/strict";
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { AppendFile } from "../../../lib/common/append_file.ts";
import { temporaryFolder } from "../../scripts.ts";

const FOLDER = temporaryFolder();
const LONG = `${"a line that is written many times, so that it is copied in parts\n".repeat(40_000)}end\n`; // 2.6 MB
let count = 0;

/** A file that already holds something, in a folder of its own. */
function begun() {
  const folder = join(FOLDER, `run${count++}`);
  const path = join(folder, "metrics.jsonl");
  const file = new AppendFile(path);
  file.write(LONG);
  return { folder, path, file };
}

const CASES: [what: string, change: (folder: string, path: string) => void, expected?: string][] = [
  ["moved", (folder) => renameSync(folder, `${folder}-moved`)],
  ["removed", (folder) => rmSync(folder, { recursive: true })],
  ["emptied", (_, path) => rmSync(path)],
  [
    "replaced by a copy",
    (folder) => {
      cpSync(folder, `${folder}-copy`, { recursive: true });
      rmSync(folder, { recursive: true });
      renameSync(`${folder}-copy`, folder);
    },
  ],
  [
    "replaced by a folder with another run's file",
    (folder, path) => {
      renameSync(folder, `${folder}-moved`);
      mkdirSync(folder);
      writeFileSync(path, "another run's\n");
    },
    `another run's\n${LONG}more\nand more\n`,
  ],
];

for (const [what, change, expected = `${LONG}more\nand more\n`] of CASES) {
  test(`a folder that is ${what} while its file is written: all of it is there again`, () => {
    const { folder, path, file } = begun();
    change(folder, path);
    file.write("more\n");
    file.write("and more\n");
    file.close();
    assert.ok(readFileSync(path, "utf8") === expected);
  });
}

test("asked not to restore, it writes to where the file is by now", () => {
  const { folder, path, file } = begun();
  renameSync(folder, `${folder}-moved`);
  file.write("more\n", false);
  file.close();
  assert.ok(!existsSync(path));
  assert.ok(readFileSync(join(`${folder}-moved`, "metrics.jsonl"), "utf8") === `${LONG}more\n`);
});

test("a file that was cut in a line says so, an empty one and one of whole lines don't", () => {
  const path = join(FOLDER, "cut.jsonl");
  const isCut = (text: string) => {
    writeFileSync(path, text);
    const file = new AppendFile(path);
    file.close();
    return new AppendFile(path).isCut;
  };
  assert.deepEqual(["", "a\n", "a\nb"].map(isCut), [false, false, true]);
});
