// What models and files hold reaches a terminal as text: it can't clear it, move its cursor or change its title. The terminal
// is a real one to the programs (`script` makes it); a pipe gets a model's text as it is.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";

import { shellWords } from "../lib/common/scripts.ts";
import { shakenGPT } from "./lib/formats/support.ts";
import { characterMeta } from "./lib/text/support.ts";
import { assertRefused, launchCommand, ROOT, run, succeed, TSX, temporaryFolder } from "./scripts.ts";
import { saveModel } from "./support.ts";

const FOLDER = temporaryFolder();
const EVIL = "\x1b]0;mine\x07\x1b[2J\x9b2Jx\r\x7f\u202e"; // a title, twice a clear screen, and back to the line's start
const WRITTEN_OUT = "\\u001b]0;mine\\u0007\\u001b[2J\\u009b2Jx\\u000d\\u007f\\u202e";
const NAME = "out\x1b[31m,b"; // of a folder

const hasScript = spawnSync("script", ["--version"], { encoding: "utf8" }).stdout?.includes("util-linux");
const TERMINAL = { skip: !hasScript && "no script program of util-linux here" };

/** All that a script of ours writes to a terminal. */
async function onTerminal(script: string, ...args: string[]): Promise<string> {
  // what the shell is told is in a file: the arguments hold what it would take for its own
  writeFileSync(
    join(FOLDER, "command.sh"),
    `exec ${shellWords([process.execPath, ...TSX, join(ROOT, script), ...args])}`,
  );
  const env = { SHELL: "/bin/bash", TERM: "xterm" };
  const { stdout } = await launchCommand("script", ["-qec", ". ./command.sh", "/dev/null"], { cwd: FOLDER, env }).ended;
  return stdout;
}

function assertText(output: string): void {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what a terminal obeys
  assert.doesNotMatch(output.replaceAll("\r\n", "\n"), /(?!\n)[\x00-\x1f\x7f-\x9f\u202e]/);
}

before(async () => {
  const tokenizer = characterMeta([...new Set(`${EVIL}\nab`)].join(""));
  await saveModel(join(FOLDER, "out"), shakenGPT({ vocab_size: tokenizer.vocab_size }), { tokenizer });

  const events = [
    {
      event: "start",
      time: 0,
      iter: 0,
      resumed: false,
      name: EVIL,
      pid: 1,
      config: { max_iters: 9 },
      facts: { dataset: EVIL },
    },
    { event: "step", time: 1, iter: 1, loss: 3, lr: 1, [EVIL]: 2 },
    { event: "evaluate", time: 1, iter: 1, "train/loss": 2, "val/loss": 2 },
    { event: "text", time: 1, iter: 1, name: EVIL, text: EVIL },
    { event: "end", time: 2, iter: 2, reason: "failed", why: EVIL },
  ];
  mkdirSync(join(FOLDER, NAME));
  writeFileSync(join(FOLDER, NAME, "metrics.jsonl"), events.map((event) => `${JSON.stringify(event)}\n`).join(""));
});

test("sampled text: written out on a terminal, raw in a pipe", TERMINAL, async () => {
  const prompt = EVIL.replace("\r", ""); // a line end, as prompts are read
  const args = ["--out_dir=out", `--start=${prompt}`, "--num_samples=2", "--max_new_tokens=40", "--temperature=3"];
  const raw = await succeed("sample.ts", args, { cwd: FOLDER });
  assert.ok(raw.startsWith(prompt));
  const shown = await onTerminal("sample.ts", ...args);
  assertText(shown);
  assert.ok(shown.includes(WRITTEN_OUT.replace("\\u000d", "")), shown);
});

test("a line of error is one line, in a pipe too", TERMINAL, async () => {
  const name = `none\nhere${EVIL}`;
  const ended = await run("tools/export.ts", [`--out_dir=${name}`], { cwd: FOLDER });
  assertRefused(ended, /no checkpoint in none\\nhere\\u001b/);
  assertText(ended.stderr);
  assertText(await onTerminal("tools/export.ts", `--out_dir=${name}`));
});

test("the monitor's view and a plot's lines; a folder with a comma in its name is one", TERMINAL, async () => {
  const view = await onTerminal("tools/monitor.ts", `--out_dir=${NAME}`, "--follow=false");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the view's own colours
  assertText(view.replaceAll(/\x1b\[\d*m/g, ""));
  assert.match(view, /failed/);

  const plotted = await onTerminal("tools/plot.ts", `--out_dir=${NAME.replace(",", "\\,")}`, "--formats=svg");
  assertText(plotted);
  assert.match(plotted, /wrote out\\u001b\[31m,b/);
  const pictures = join(FOLDER, NAME, "visualizations");
  assert.ok(readdirSync(pictures).length >= 1);
  for (const picture of readdirSync(pictures)) assertText(readFileSync(join(pictures, picture), "utf8")); // or no XML
});
