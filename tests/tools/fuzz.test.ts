// tools/fuzz.ts: a short run of it, and that it would see what it is there to see.

import assert from "node:assert/strict";
import { lstatSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";

import { watcher } from "../../tools/fuzz/campaign.ts";
import { caseOf, makeCase } from "../../tools/fuzz/case.ts";
import { Chance } from "../../tools/fuzz/chance.ts";
import { faultOf } from "../../tools/fuzz/judge.ts";
import { kinds } from "../../tools/fuzz/kinds.ts";
import { damage } from "../../tools/fuzz/mutate.ts";
import { contentsOf, succeed, temporaryFolder } from "../scripts.ts";

const FOLDER = temporaryFolder();
const BY_CHANCE = ["flags", "tracker"]; // kinds that chance has flags or answers refused for, whole or not
const HANG = 100; // seconds: a busy machine is no finding

const watched = watcher(HANG);
after(() => watched.stop());

test("every kind of file, damaged: it ends well or in one line", async () => {
  const names = Object.keys(kinds);
  for (let index = 0; index < 3 * names.length; index++) {
    const { fault, damage, printed, kind } = await watched.run(caseOf(1, index, names));
    assert.equal(fault, undefined, `case ${index}, ${kind}: ${damage}\n${printed}`);
  }
});

test("a sample that nothing has happened to is read to its end", async () => {
  for (const kind of Object.keys(kinds)) {
    const { fault, printed, refused } = await watched.run({ seed: 1, index: 0, kind, whole: true });
    assert.equal(fault, undefined, `${kind}: ${printed}`);
    assert.ok(BY_CHANCE.includes(kind) || !refused, `${kind}: ${printed}`);
  }
});

test("a case is the same each time, and another one for another seed or number", async () => {
  const make = async (seed: number, index: number, name: string) => {
    const folder = join(FOLDER, name);
    const made = await makeCase({ seed, index, kind: "metrics" }, join(FOLDER, "whole"), folder);
    return { what: made.damage, bytes: Object.values(contentsOf(folder)) };
  };
  const first = await make(1, 7, "a");
  assert.deepEqual(await make(1, 7, "b"), first);
  assert.notDeepEqual(await make(2, 7, "c"), first);
  assert.notDeepEqual(await make(1, 8, "d"), first);
});

test("damage changes what is there, nearly each time", () => {
  const path = join(FOLDER, "small.json");
  const text = JSON.stringify({ a: [1, 2, { b: "c" }], d: null, e: 1.5 });
  let same = 0;
  for (let i = 0; i < 300; i++) {
    writeFileSync(path, text);
    damage(path, "json", new Chance("test", i));
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (stat?.isFile() && stat.size < 1e6 && readFileSync(path, "utf8") === text) same++;
    rmSync(path, { recursive: true, force: true });
  }
  assert.ok(same < 30, `${same} of 300 changed nothing`);
});

test("what is not one clean line is a fault", () => {
  const ended = (code: number, stderr: string, signal: NodeJS.Signals | null = null) =>
    faultOf({ code, stderr, signal });
  assert.equal(ended(0, ""), undefined);
  assert.equal(ended(1, "overriding with flags: x\nerror: no file a\n"), undefined);
  for (const [code, stderr, fault] of [
    [1, "TypeError: x\n    at read (/a/b.ts:1:2)\n", /a stack/],
    [1, "error: one\nand two\n", /not one line/],
    [1, "error: one\nerror: two\n", /not one line/],
    [1, "", /not one line/],
    [0, "error: but fine\n", /exit code 0/],
    [3, "", /code 3/],
    [1, "error: \u001b[2J\n", /control character/],
    [0, "note: \u0007\n", /control character/],
    [1, `error: ${"x".repeat(1100)}\n`, /too long/],
    [1, "error: got [object Object]\n", /inside/],
    [1, "error: internal: n is no number\n", /inside/],
  ] as const) {
    assert.match(ended(code, stderr) ?? "", fault, stderr.slice(0, 40));
  }
  assert.match(ended(0, "", "SIGSEGV") ?? "", /SIGSEGV/);
});

test("a case that hangs or ends its process is a finding, and the next one is run all the same", async () => {
  const child = join(FOLDER, "child.mjs");
  writeFileSync(
    child,
    `process.on("message", (about) => {
      if (about.index === 1) while (true);
      if (about.index === 2) process.exit(7);
      if (about.index === 3) process.kill(process.pid, "SIGKILL");
      process.send(about);
    });
    process.send("ready");`,
  );
  const [patient, impatient] = [watcher(HANG, child), watcher(0.1, child)];
  after(() => patient.stop());
  after(() => impatient.stop());
  const faultAt = async (index: number, by = patient) => (await by.run({ seed: 1, index, kind: "metrics" })).fault;
  assert.equal(await faultAt(0), undefined);
  assert.equal(await faultAt(2), "ended its process with 7");
  assert.equal(await faultAt(3), "ended its process with SIGKILL");
  assert.equal(await faultAt(4), undefined);
  assert.equal(await faultAt(1, impatient), "hangs: nothing after 0.1 s");
});

test("the script says what it did, and leaves alone what is in its folder", async () => {
  const kept = join(FOLDER, "kept");
  mkdirSync(kept);
  writeFileSync(join(kept, "mine.txt"), "of a person");
  const before = contentsOf(kept);
  const printed = await succeed("tools/fuzz.ts", ["--cases=2", "--only=lock,report", `--keep=${kept}`]);
  assert.deepEqual(contentsOf(kept), before);
  assert.match(printed, /^2 cases of 2 kinds in \d+ s, seed 1: 0 findings$/m);
});
