// lib/settings/help.ts: --help is one screen of the terminal, whichever script it is of; --help=all leaves nothing out.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

import { type Helped, helpAsked, helpText, screenOf } from "../../../lib/settings/help.ts";
import type { Settings } from "../../../lib/settings/rules.ts";
import { ROOT, run } from "../../scripts.ts";

const SCRIPTS = ["train.ts", "sample.ts", "bench.ts"].concat(
  readdirSync(join(ROOT, "tools"))
    .filter((name) => /^(monitor|pipeline|evaluate|export|serve|plot|doctor)\.ts$/.test(name))
    .map((name) => `tools/${name}`),
);
const SIZES = [
  { columns: 80, rows: 24 },
  { columns: 60, rows: 30 },
  { columns: 120, rows: 50 },
];

async function helped(script: string): Promise<Helped> {
  const path = join(ROOT, script);
  const { defaults }: { defaults: Settings } = await import(pathToFileURL(path).href);
  return { script: path, usage: "Do what it does.", defaults };
}

for (const script of SCRIPTS) {
  test(`${script}: --help fits the terminal and has examples; --help=all has every setting`, async () => {
    const page = await helped(script);
    for (const screen of SIZES) {
      const short = helpText(page, "short", screen).split("\n");
      assert.ok(short.length < screen.rows, `${short.length} lines on ${screen.rows}:\n${short.join("\n")}`);
      const all = helpText(page, "all", screen);
      for (const line of [...short, ...all.split("\n")]) {
        const isOneWord = !/\S +\S/.test(line.trim()); // a path that is longer than the terminal is wide
        assert.ok(line.length <= screen.columns || isOneWord, `${line.length} of ${screen.columns}: ${line}`);
      }
      const text = short.join("\n");
      assert.match(text, new RegExp(`^ {2}npx tsx ${script}`, "m"), "an example");
      assert.ok((text.match(/^ {2}--\w+=/gm) ?? []).length >= Math.min(8, Object.keys(page.defaults).length) - 4);
      const keys = [...all.matchAll(/^ {2}--(\w+)=/gm)].map(([, key]) => key);
      assert.deepEqual(keys, Object.keys(page.defaults));
      if (text !== all) assert.match(text, new RegExp(`--help=all lists all ${keys.length} settings`));
    }
  });
}

test("train.ts' first screen has what nearly every run sets", async () => {
  const text = helpText(await helped("train.ts"), "short", { columns: 80, rows: 24 });
  for (const key of ["out_dir", "dataset", "init_from", "max_iters", "batch_size", "n_layer"]) {
    assert.match(text, new RegExp(`^ {2}--${key}=`, "m"));
  }
});

test("a wide terminal needs fewer lines than a narrow one", async () => {
  const page = await helped("train.ts");
  const linesAt = (columns: number) => helpText(page, "all", { columns, rows: 24 }).split("\n").length;
  assert.ok(linesAt(160) < linesAt(80));
  assert.ok(linesAt(80) < linesAt(40));
});

test("what asks for help", () => {
  assert.equal(helpAsked(["--n_layer=1"]), undefined);
  for (const argv of [["--help"], ["-h"], ["x.ts", "--n_layer=1", "--help"]]) assert.equal(helpAsked(argv), "short");
  assert.equal(helpAsked(["--help", "--help=all"]), "all");
  assert.throws(() => helpAsked(["--help=al"]), { message: "--help=al is neither --help nor --help=all" });
});

test("where stdout is no terminal the screen is that of $COLUMNS and $LINES, or 80 by 24", () => {
  assert.deepEqual(screenOf({}, {}), { columns: 80, rows: 24 });
  assert.deepEqual(screenOf({}, { COLUMNS: "132", LINES: "x" }), { columns: 132, rows: 24 });
  assert.deepEqual(screenOf({ columns: 97, rows: 31 }, { COLUMNS: "132" }), { columns: 97, rows: 31 });
});

test("help is what sample.ts prints on stdout, though its other words go to stderr", async () => {
  const { stdout, stderr, code } = await run("sample.ts", ["-h"]);
  assert.match(stdout, /^usage: npx tsx sample\.ts /);
  assert.equal(stderr, "");
  assert.equal(code, 0);
});

test("a group that is spread into the defaults has its heading and its remarks", async () => {
  const all = helpText(await helped("train.ts"), "all", { columns: 200, rows: 24 });
  assert.match(all, /\n\nlayer choices beyond GPT-2 .*\n {2}--architecture="decoder" +"decoder" \(GPT\), "encoder"/);
  assert.match(all, /\n {2}--optimizer="adamw" +"adamw", "lion", "muon", "adafactor" or "sgd"; muon uses adamw/);
  const silent = [...all.matchAll(/^ {2}--(\w+)=\S*$/gm)].map(([, key]) => key);
  assert.deepEqual(silent, ["n_layer", "n_head", "n_embd", "weight_decay", "warmup_iters"], "a word on all others");
});
