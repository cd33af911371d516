// lib/common/lock.ts: one process at a time in a folder, whatever became of the one before.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { hostname } from "node:os";
import { dirname, join } from "node:path";
import { mock, test } from "node:test";

import { UserError } from "../../../lib/common/errors.ts";
import { InUseError, lock, STALE } from "../../../lib/common/lock.ts";
import { assertRefused, launchCommand, ROOT, TSX, temporaryFolder } from "../../scripts.ts";

const FOLDER = temporaryFolder();
let count = 0;
const fresh = () => join(FOLDER, `run${count++}`);
const write = (folder: string, holder: object | string) => {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "lock.json"), typeof holder === "string" ? holder : JSON.stringify(holder));
};

/** A process that locks the folder and says so; it ends when its stdin does. */
function holder(folder: string) {
  const code = `
    import { main } from "./lib/common/errors.ts";
    import { lock } from "./lib/common/lock.ts";
    await main(async () => {
      lock(${JSON.stringify(folder)}, "testing");
      console.log("locked");
      await new Promise((resolve) => process.stdin.on("end", resolve).resume());
    });`;
  return launchCommand(process.execPath, [...TSX, "--input-type=module", "-e", code], { cwd: ROOT });
}

test("the second process is refused with the first one's id, and gets the folder once that has ended", async () => {
  const folder = fresh();
  const first = holder(folder);
  await first.until(/locked/);
  const second = await holder(folder).ended;
  assertRefused(
    second,
    new RegExp(
      `run\\d+ is in use: testing in process ${first.child.pid} on ${hostname()}, last sign of life \\d+ s ago; `,
    ),
  );
  first.child.stdin!.end();
  assert.equal((await first.ended).code, 0);
  assert.ok(!existsSync(folder), "a folder that was made for nothing stays");
  const third = holder(folder);
  await third.until(/locked/);
  third.child.stdin!.end();
  await third.ended;
});

test("a killed process leaves no lock behind", async () => {
  const folder = fresh();
  const first = holder(folder);
  await first.until(/locked/);
  first.child.kill("SIGKILL");
  await first.ended;
  assert.ok(existsSync(join(folder, "lock.json")));
  const release = lock(folder, "testing");
  assert.equal(JSON.parse(readFileSync(join(folder, "lock.json"), "utf8")).pid, process.pid);
  release();
  assert.deepEqual(readdirSync(folder), []);
});

test("a process id that was given to another process since is not the holder's", {
  skip: !existsSync("/proc/self/stat") && "no /proc here",
}, () => {
  const folder = fresh();
  write(folder, { pid: process.pid, host: hostname(), began: "1", what: "testing" });
  lock(folder, "testing")();
});

const ELSEWHERE = { pid: 1, host: "elsewhere", began: null, what: "training" };

/** Let the last sign of life be so many ms ago. */
const age = (folder: string, ms: number) => {
  const then = new Date(Date.now() - ms);
  utimesSync(join(folder, "lock.json"), then, then);
};

test("a holder on another machine is believed while it shows signs of life, and is gone once it doesn't", () => {
  const folder = fresh();
  write(folder, ELSEWHERE);
  age(folder, STALE - 20_000);
  assert.throws(
    () => lock(folder, "testing"),
    (error) =>
      error instanceof InUseError &&
      error.silence > STALE - 21_000 &&
      /training in process 1 on elsewhere, last sign of life \d+ s ago; .*silent for 120 s/.test(error.message),
  );
  assert.deepEqual(readdirSync(folder), ["lock.json"]);
  age(folder, STALE + 1000);
  lock(folder, "testing")();
  assert.deepEqual(readdirSync(folder), []);
});

test("a process id of another container is not looked for in this one", {
  skip: !existsSync("/proc/self/ns/pid") && "no namespaces here",
}, () => {
  const folder = fresh();
  write(folder, { ...ELSEWHERE, host: hostname(), pids: "pid:[1]", pid: 999_999_999 });
  assert.throws(() => lock(folder, "testing"), InUseError);
  age(folder, STALE + 1000);
  lock(folder, "testing")();
});

test("a process that has ended is gone, though its parent has not waited for it", {
  skip: !existsSync("/proc/self/stat") && "no /proc here",
}, async () => {
  const folder = fresh();
  // the shell's child ends; the shell becomes a program that never asks
  const parent = spawn("sh", ["-c", "sleep 0 & echo $!; exec sleep 60"]);
  const pid = Number(await new Promise((resolve) => parent.stdout.setEncoding("utf8").once("data", resolve)));
  const state = () => readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.[0];
  while (state() !== "Z") await new Promise((resolve) => setTimeout(resolve, 10));
  const began = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ")[19];
  write(folder, { pid, host: hostname(), began, what: "testing" });
  lock(folder, "testing")();
  parent.kill();
});

test("a holder renews its sign of life, and leaves a lock that is another's by now alone", () => {
  mock.timers.enable({ apis: ["setInterval"] });
  try {
    const folder = fresh();
    const release = lock(folder, "testing");
    age(folder, STALE + 1000);
    const before = readFileSync(join(folder, "lock.json"), "utf8");
    mock.timers.tick(20_000);
    const path = join(folder, "lock.json");
    assert.ok(Date.now() - statSync(path).mtimeMs < STALE / 2);
    assert.equal(readFileSync(path, "utf8"), before);

    write(folder, ELSEWHERE);
    age(folder, STALE + 1000);
    mock.timers.tick(20_000);
    assert.ok(Date.now() - statSync(path).mtimeMs > STALE);
    release();
    assert.deepEqual(JSON.parse(readFileSync(path, "utf8")), ELSEWHERE);
  } finally {
    mock.timers.reset();
  }
});

test("a lock that can't be read for a while doesn't end its holder's work", () => {
  mock.timers.enable({ apis: ["setInterval"] });
  try {
    const folder = fresh();
    const path = join(folder, "lock.json");
    const release = lock(folder, "testing");
    renameSync(path, `${path}.away`);
    mkdirSync(path);
    mock.timers.tick(20_000);
    rmdirSync(path);
    renameSync(`${path}.away`, path);
    assert.equal(release.renew(), true);
    release();
    assert.ok(!existsSync(path));
  } finally {
    mock.timers.reset();
  }
});

test("renewing: a folder that was moved is made again, one that another process has is refused", () => {
  const folder = fresh();
  const release = lock(folder, "testing");
  const { renew } = release;
  assert.equal(renew(), true);
  renameSync(folder, `${folder}-moved`);
  assert.equal(renew(), false);
  assert.equal(renew(), true);
  assert.equal(JSON.parse(readFileSync(join(folder, "lock.json"), "utf8")).pid, process.pid);
  write(folder, ELSEWHERE);
  assert.throws(() => renew(), InUseError);
  release();
  assert.ok(existsSync(join(folder, "lock.json")));
});

test("a lock that was cut while it was written is none", () => {
  const folder = fresh();
  write(folder, '{"pid": 12');
  lock(folder, "testing")();
  assert.deepEqual(readdirSync(folder), []);
});

test("of four processes that find a dead one's lock at the same time, one gets it", async () => {
  const folder = fresh();
  const dead = spawnSync(process.execPath, ["-e", ""]).pid;
  write(folder, { pid: dead, host: hostname(), began: "1", what: "testing" });
  const code = `
    import { lock } from "./lib/common/lock.ts";
    process.stdin.once("data", () => {
      try { lock(${JSON.stringify(folder)}, "testing"); console.log("got"); } catch { console.log("refused"); }
      setInterval(() => {}, 1000);
    });
    console.log("ready");`;
  const all = Array.from({ length: 4 }, () =>
    spawn(process.execPath, [...TSX, "--input-type=module", "-e", code], { cwd: ROOT }),
  );
  const said = all.map((child) => {
    let text = "";
    child.stdout.setEncoding("utf8").on("data", (part) => {
      text += part;
    });
    return () => text;
  });
  const until = async (pattern: RegExp) => {
    while (!said.every((text) => pattern.test(text()))) await new Promise((resolve) => setTimeout(resolve, 20));
  };
  await until(/ready/);
  for (const child of all) child.stdin.write("go\n");
  await until(/got|refused/);
  for (const child of all) child.kill("SIGKILL");
  assert.equal(said.filter((text) => /got/.test(text())).length, 1);
});

test("a folder that can't be made is one line", () => {
  assert.throws(
    () => lock(join(ROOT, "train.ts", "out"), "testing"),
    (error) => error instanceof UserError && /^can't make or write the folder .*train\.ts/.test(error.message),
  );
});

test("the right to remove a dead lock: of a living process it is respected, of a dead one it is passed on", async (t) => {
  const folder = fresh();
  const dead = (pid: number) => ({ pid, host: hostname(), began: "1", what: "testing" });
  const path = join(folder, "lock.json");
  const right = (of: object) => {
    const digest = createHash("sha256").update(JSON.stringify(of)).digest("hex");
    return `${path}.${digest.slice(0, 16)}.tmp`;
  };
  const [first, second] = [spawnSync(process.execPath, ["-e", ""]).pid, spawnSync(process.execPath, ["-e", ""]).pid];
  write(folder, dead(first));
  writeFileSync(right(dead(first)), JSON.stringify(dead(second))); // killed while it took over the first one's lock
  lock(folder, "testing")();
  assert.deepEqual(readdirSync(folder), []);

  write(folder, dead(first));
  const living = join(fresh(), "lock.json");
  t.after(lock(dirname(living), "testing"));
  copyFileSync(living, right(dead(first))); // of this process, which lives
  assert.throws(() => lock(folder, "testing"), InUseError);
  assert.deepEqual(JSON.parse(readFileSync(path, "utf8")), dead(first));
});
