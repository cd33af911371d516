// lib/common/atomic_folder.ts: a folder's files change together, and what a killed process leaves of that comes to its end. The
// moments of a kill are made by hand here; tests/kill_export.ts has them fall anywhere.

import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { type FolderKind, finishFolder, writeFolderAtomic } from "../../../lib/common/atomic_folder.ts";
import { temporaryFolder } from "../../scripts.ts";
import { userError } from "../text/support.ts";

type Files = Record<string, string>;

/** A folder's mark holds the names of its own files. */
const KIND: FolderKind = {
  what: "a test",
  earlier: (folder) =>
    new Set(existsSync(join(folder, "mark")) ? readFileSync(join(folder, "mark"), "utf8").split(" ") : []),
  heads: ["head", "mark"],
};
const withMark = (files: Files): Files => ({ ...files, mark: [...Object.keys(files), "mark"].join(" ") });
const OLD = withMark({ head: "1", part: "1", only_old: "1" });
const NEW = withMark({ head: "2", part: "2", only_new: "2" });
const OTHERS = { "notes.txt": "mine" };

function fill(folder: string, files: Files): string {
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  return folder;
}

function filesOf(folder: string): Files {
  return Object.fromEntries(readdirSync(folder).map((name) => [name, textOf(folder, name)]));
}

const textOf = (folder: string, name: string) => readFileSync(join(folder, name), "utf8");

/** A folder for targets; what is beside them when the test ends is compared. */
const newTarget = () => join(temporaryFolder(), "target");
const beside = (target: string) => readdirSync(join(target, ".."));

for (const [what, before, after] of [
  ["that isn't there", undefined, NEW],
  ["that is empty", {}, NEW],
  ["of an earlier version", OLD, NEW],
  ["of an earlier version, with other files", { ...OLD, ...OTHERS }, { ...NEW, ...OTHERS }],
  ["of other files", OTHERS, { ...NEW, ...OTHERS }],
] as [string, Files | undefined, Files][]) {
  test(`a folder ${what} has the new files and nothing else, and is as it was until they are whole`, async () => {
    const target = newTarget();
    if (before) fill(target, before);
    await writeFolderAtomic(target, KIND, (directory) => {
      fill(directory, NEW);
      if (before) for (const [name, text] of Object.entries(before)) assert.equal(textOf(target, name), text);
      else assert.ok(!existsSync(target));
    });
    assert.deepEqual(filesOf(target), after);
    assert.deepEqual(beside(target), ["target"]);
  });

  test(`a folder ${what} stays as it was where the new files can't be written`, async () => {
    const target = newTarget();
    if (before) fill(target, before);
    const failing = writeFolderAtomic(target, KIND, (directory) => {
      fill(directory, { head: "2" });
      throw new Error("full");
    });
    await assert.rejects(failing, /^Error: full$/);
    if (before) assert.deepEqual(filesOf(target), before);
    assert.deepEqual(beside(target), before ? ["target"] : []);
  });
}

// Where a kill falls: the files of the target (undefined: there is none), of its work folder (named), and what is there in the end.
for (const [what, target, work, after] of [
  ["while the first files are written", undefined, { new: { head: "2" } }, undefined],
  ["while files are written", OLD, { new: { head: "2" } }, OLD],
  ["when they are whole", OLD, { ready: NEW }, NEW],
  ["between the two renames", undefined, { ready: NEW, old: OLD }, NEW],
  ["after the second rename", NEW, { old: OLD }, NEW],
] as [string, Files | undefined, Record<string, Files>, Files | undefined][]) {
  test(`killed ${what}`, async () => {
    const path = newTarget();
    if (target) fill(path, target);
    for (const [name, files] of Object.entries(work)) fill(join(`${path}.unfinished`, name), files);
    writeFileSync(join(`${path}.unfinished`, "lock.json"), '{"pid":'); // cut
    finishFolder(path, KIND);
    if (after) assert.deepEqual(filesOf(path), after);
    else assert.ok(!existsSync(path));
    assert.deepEqual(beside(path), after ? ["target"] : []);
  });
}

test("killed while files move one by one: after each move the rest follows", async () => {
  // the order that they move in: what readers look for goes first and comes last
  const steps: ((target: Files, ready: Files) => void)[] = [
    (target) => delete target.head,
    ...["part", "only_new"].map((name) => (target: Files, ready: Files) => {
      target[name] = ready[name]!;
      delete ready[name];
    }),
    (target) => delete target.only_old,
    (target, ready) => {
      target.head = ready.head!;
      delete ready.head;
    },
  ];
  for (let done = 0; done <= steps.length; done++) {
    const [target, ready]: Files[] = [{ ...OLD, ...OTHERS }, { ...NEW }];
    for (const step of steps.slice(0, done)) step(target!, ready!);
    const path = fill(newTarget(), target!);
    fill(join(path, ".unfinished", "ready"), ready!);
    finishFolder(path, KIND);
    assert.deepEqual(filesOf(path), { ...NEW, ...OTHERS }, `after ${done} moves`);
  }
});

test("a folder that is named by a link is replaced, and the link stays", async () => {
  const target = fill(newTarget(), OLD);
  const link = join(target, "..", "link");
  symlinkSync(target, link);
  await writeFolderAtomic(link, KIND, (directory) => void fill(directory, NEW));
  assert.deepEqual(filesOf(target), NEW);
  assert.deepEqual(beside(target), ["link", "target"]);
});

test("the working directory keeps its place", async () => {
  const target = fill(newTarget(), OLD);
  const here = process.cwd();
  process.chdir(target);
  try {
    await writeFolderAtomic(".", KIND, (directory) => void fill(directory, NEW));
    assert.deepEqual(filesOf("."), NEW); // the shell's, not the one that a rename would have taken away
  } finally {
    process.chdir(here);
  }
  assert.deepEqual(beside(target), ["target"]);
});

test("one process at a time", async () => {
  const target = newTarget();
  await writeFolderAtomic(target, KIND, async (directory) => {
    const second = writeFolderAtomic(target, KIND, () => assert.fail("began as well"));
    await assert.rejects(second, userError(/target\.unfinished is in use: a test in process \d+/));
    fill(directory, NEW);
  });
  assert.deepEqual(filesOf(target), NEW);
});
