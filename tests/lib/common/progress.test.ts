// lib/common/progress.ts on a terminal: the bar is at the foot, no line of the log is lost, and it goes away without a
// trace however the program ends. The terminal is a real one to the program (`script` makes it); what a person would
// see on it is worked out from the bytes that came.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

import { flags, launchCommand, ROOT, type Running, TSX, temporaryFolder, tinyDataset } from "../../scripts.ts";

const FOLDER = temporaryFolder();
const ROWS = 12;
const COLUMNS = 100;
const BAR = /[█░]{24} \d+\/\d+ \|/;

const hasScript = spawnSync("script", ["--version"], { encoding: "utf8" }).stdout?.includes("util-linux");
const TERMINAL = { skip: !hasScript && "no script program of util-linux here" };

/** Run a TypeScript file on a terminal of its own. Writing "\x03" to its stdin is pressing Ctrl-C. */
function onTerminal(file: string, args: readonly string[] = [], before = ""): Running {
  const words = [process.execPath, ...TSX, file, ...args].map((word) => `'${word.replaceAll("'", "'\\''")}'`);
  const command = `stty rows ${ROWS} cols ${COLUMNS}; ${before} exec ${words.join(" ")}`;
  return launchCommand("script", ["-qec", command, "/dev/null"], { cwd: FOLDER, env: { SHELL: "/bin/bash" } });
}

/** The lines that have scrolled out and those on the screen, blank ones at the end left out; and the cursor. */
function look(output: string): { lines: string[]; cursor: { line: number; column: number; visible: boolean } } {
  const lines: string[] = [""];
  let top = 0; // the screen's first line
  let [row, column, visible] = [0, 0, true];
  let saved = { row: 0, column: 0 }; // on the screen, as terminals save it
  const feed = () => {
    if (row === ROWS - 1) top++;
    else row++;
    lines[top + row] ??= "";
  };
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what a terminal reads
  for (const [word, code, letter] of output.matchAll(/\x1b\[([?\d;]*)([A-Za-z])|\x1b[78]|[^\x1b]/gsu)) {
    if (word === "\r") column = 0;
    else if (word === "\n") feed();
    else if (word === "\x1b7") saved = { row, column };
    else if (word === "\x1b8") ({ row, column } = saved);
    else if (letter === "G") column = Number(code || 1) - 1;
    else if (letter === "K" && (code === "" || code === "0")) lines[top + row] = lines[top + row]!.slice(0, column);
    else if (letter === "K" && code === "2") lines[top + row] = "";
    else if (code === "?25") visible = letter === "h";
    else if (letter === "m")
      continue; // a colour
    else if (letter) assert.fail(`the test's terminal doesn't know ${JSON.stringify(word)}`);
    else {
      if (column === COLUMNS) {
        column = 0;
        feed();
      }
      const line = lines[top + row]!.padEnd(column);
      lines[top + row] = line.slice(0, column) + word + line.slice(column + 1);
      column++;
    }
  }
  while (lines.length > 1 && lines.at(-1) === "") lines.pop();
  return { lines, cursor: { line: top + row, column, visible } };
}

/** No bar is left, the cursor is back, and stands where the next line goes. */
function assertTidy(output: string): void {
  const { lines, cursor } = look(output);
  assert.doesNotMatch(lines.join("\n"), BAR);
  assert.deepEqual(cursor, { line: lines.length, column: 0, visible: true }, JSON.stringify(output.slice(-400)));
}

function scriptOf(name: string, body: string): string {
  const path = join(FOLDER, `${name}.mts`);
  const module = JSON.stringify(pathToFileURL(join(ROOT, "lib", "common", "progress.ts")).href);
  writeFileSync(path, `import { startProgress } from ${module};\n${body}\n`);
  return path;
}

const FORTY_LINES = scriptOf(
  "lines",
  `console.log("before");
  const progress = startProgress(40);
  for (let i = 1; i <= 40; i++) {
    await new Promise((resolve) => setTimeout(resolve, 5));
    progress.update(i, "note " + i);
    progress.log("line " + i + "."); // on a terminal, some of them with nothing new in the bar
    progress.log("again " + i + "." + (i % 10 ? "" : "long".repeat(30)));
  }
  progress.stop();
  progress.stop();
  progress.log("after");
  progress.update(41, "too late");`,
);
const forty = Array.from({ length: 40 }, (_, i) => [
  `line ${i + 1}.`,
  `again ${i + 1}.${i % 10 === 9 ? "long".repeat(30) : ""}`,
]).flat();

test("in a pipe there are the lines and nothing else", async () => {
  const { stdout, stderr, code } = await launchCommand(process.execPath, [...TSX, FORTY_LINES]).ended;
  assert.equal(stdout, `${["before", ...forty, "after"].join("\n")}\n`);
  assert.equal(stderr, "");
  assert.equal(code, 0);
});

test("on a terminal the lines scroll above the bar, which is always there and gone in the end", TERMINAL, async () => {
  const { stdout, code } = await onTerminal(FORTY_LINES).ended;
  assert.equal(code, 0, stdout);
  const wrapped = ["before", ...forty, "after"].flatMap((line) => line.match(/.{1,100}/g)!); // at COLUMNS
  assert.deepEqual(look(stdout).lines, wrapped);
  assertTidy(stdout);
  for (const line of forty) {
    const { lines, cursor } = look(stdout.slice(0, stdout.indexOf(`\r\x1b[2K${line}`)));
    assert.match(lines.at(-1)!, BAR, `no bar before ${line}`);
    assert.equal(lines.filter((other) => BAR.test(other)).length, 1);
    assert.equal(cursor.visible, false);
  }
});

test("a bar says how much time is left once it is known, and nothing that is no time", TERMINAL, async () => {
  const slow = scriptOf(
    "left",
    `const progress = startProgress(1e12);
    for (let i = 0; i < 300; i++) progress.update(0, "evaluating " + i); // more than a hundred that bring nothing on
    progress.log("nothing yet");
    progress.update(1, "one");
    await new Promise((resolve) => setTimeout(resolve, 5));
    for (let i = 0; i < 300; i++) progress.update(2, "two");
    progress.log("now it is known");
    progress.stop();`,
  );
  const { stdout, code } = await onTerminal(slow).ended;
  assert.equal(code, 0, stdout);
  const barAfter = (line: string, end: string) => {
    const from = stdout.indexOf(`${line}\r\n`);
    return look(stdout.slice(0, stdout.indexOf(end, from))).lines.at(-1)!;
  };
  assert.match(barAfter("nothing yet", "\r\x1b[2K"), /0\/1000000000000 \| evaluating 299$/);
  assert.match(barAfter("now it is known", "\x1b7"), /2\/1000000000000 \| \d+ d (\d+ h )?left \| two$/);
  assert.doesNotMatch(stdout, /INF|NFs|NULs?|ULs|NaN|undefined/);
});

test("an error while the bar is there leaves a terminal with a cursor", TERMINAL, async () => {
  const crash = scriptOf("crash", 'startProgress(9).log("line");\nthrow new TypeError("a bug");');
  const { stdout, code } = await onTerminal(crash).ended;
  assert.equal(code, 1);
  assert.match(look(stdout).lines.join("\n"), /^line\n(.*\n)*TypeError: a bug/);
  assertTidy(stdout);
});

// ---- train.ts ----

const SETTINGS = {
  dataset: tinyDataset(FOLDER),
  n_layer: 1,
  n_head: 1,
  n_embd: 32,
  block_size: 16,
  batch_size: 4,
  gradient_accumulation_steps: 1,
  eval_interval: 10,
  eval_iters: 2,
  max_iters: 30,
  threads: 1,
};
const TRAIN = join(ROOT, "train.ts");
const settings = (more: Record<string, string | number>) => flags({ ...SETTINGS, ...more });

test("training on a terminal logs what it logs to a pipe", TERMINAL, async () => {
  const { stdout, code } = await onTerminal(TRAIN, settings({ out_dir: "whole" })).ended;
  assert.equal(code, 0, stdout);
  const steps = [
    ...look(stdout)
      .lines.join("\n")
      .matchAll(/^iter (\d+): loss/gm),
  ].map(([, step]) => Number(step));
  assert.deepEqual(
    steps,
    Array.from({ length: 30 }, (_, i) => i),
  );
  assert.match(stdout, BAR);
  assertTidy(stdout);
});

// without the terminal's own ^C, which may stand in the middle of what the bar writes
test("Ctrl-C on a terminal takes the bar away and says how to go on", TERMINAL, async () => {
  const { child, ended, until } = onTerminal(TRAIN, settings({ out_dir: "stopped", max_iters: 1e6 }), "stty -echo;");
  await until(/iter 12:/);
  child.stdin!.write("\x03");
  const { stdout, code } = await ended;
  assert.equal(code, 130);
  const text = look(stdout).lines.join("\n");
  assert.match(text, /^SIGINT: stopping; once more/m);
  assert.match(text, /^stopped before step \d+; continue with: npx tsx train\.ts/m);
  assertTidy(stdout);
});

test("two Ctrl-C on a terminal leave it with a cursor and without a bar", TERMINAL, async () => {
  const long = settings({ out_dir: "twice", gradient_accumulation_steps: 1e6 });
  const { child, ended, until } = onTerminal(TRAIN, long);
  await until(/step 0:/);
  child.stdin!.write("\x03");
  await until(/SIGINT: stopping/);
  child.stdin!.write("\x03");
  const { stdout, code } = await ended;
  assert.equal(code, 130);
  assert.match(look(stdout).lines.at(-1)!, /stopped before step 0; /); // the first one has ended it, or is about to
  assert.doesNotMatch(look(stdout).lines.join("\n"), BAR);
  assert.ok(look(stdout).cursor.visible);
});

test("a full disk ends training on a terminal with its line", TERMINAL, async () => {
  const { stdout, code } = await onTerminal(TRAIN, settings({ out_dir: "full" }), "ulimit -f 8;").ended;
  assert.equal(code, 1, stdout);
  assert.match(look(stdout).lines.at(-1)!, /^error: can't write the checkpoint to full: EFBIG/);
  assertTidy(stdout);
});
