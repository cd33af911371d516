// tools/plot.ts as a person runs it: the files it writes, and what it says to mistakes.

import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";

import { shakenGPT } from "../lib/formats/support.ts";
import { characterMeta } from "../lib/text/support.ts";
import { assertRefused, assertSucceeded, contentsOf, oneProcess, run, succeed, temporaryFolder } from "../scripts.ts";
import { saveModel } from "../support.ts";

const FOLDER = temporaryFolder();
const META = characterMeta("abcdefghij\n");

const runHere = oneProcess();
const plotted = async (...args: string[]) =>
  assertSucceeded(await runHere("tools/plot.ts", args, FOLDER), args.join(" "));

function makeRun(name: string, lines: object[]): void {
  mkdirSync(join(FOLDER, name));
  const start = { event: "start", time: 0, iter: 0, resumed: false, name, pid: 1, config: {}, facts: {} };
  const text = [start, ...lines].map((line) => `${JSON.stringify(line)}\n`).join("");
  writeFileSync(join(FOLDER, name, "metrics.jsonl"), text);
}

before(async () => {
  for (const [name, shift] of [
    ["out-a", 0],
    ["out-b", 0.5],
  ] as const) {
    const steps = Array.from({ length: 20 }, (_, iter) => [
      { event: "step", time: iter, iter, loss: 3 - iter / 20, lr: 1e-3, tokens_per_s: 1000 },
      { event: "evaluate", time: iter, iter: iter + 1, "train/loss": 2, "val/loss": 2.5 + shift, "time/compute": 1 },
    ]);
    makeRun(name, steps.flat());
  }
  makeRun("out-new", []);
  await saveModel(join(FOLDER, "out-a"), shakenGPT(), { tokenizer: META });
});

const pictures = (folder: string) => readdirSync(join(FOLDER, folder, "visualizations")).sort();

test("all that one run has, in both formats, in its folder", async () => {
  const output = await plotted("--out_dir=out-a");
  const kinds = ["learning_rate", "throughput", "time_split", "training_curves"];
  const names = pictures("out-a");
  assert.equal(names.length, 8);
  for (const [i, kind] of kinds.entries()) {
    assert.match(names[2 * i]!, new RegExp(`^${kind}_out-a_\\d{8}_\\d{6}\\.png$`));
    assert.equal(names[2 * i + 1], names[2 * i]!.replace(/png$/, "svg"));
    assert.ok(output.includes(`wrote ${join("out-a", "visualizations", names[2 * i]!)}\n`), output);
  }
});

test("without the program that draws PNGs: one line, nothing written, and SVGs all the same", async () => {
  const options = { cwd: FOLDER, env: { NAPI_RS_NATIVE_LIBRARY_PATH: join(FOLDER, "not-installed.node") } };
  const before = contentsOf(FOLDER);
  const ended = await run("tools/plot.ts", ["--out_dir=out-a"], options);
  assertRefused(ended, /can't draw a PNG: @napi-rs\/canvas has no program .*; run: npm ci, or take --formats=svg$/m);
  assert.deepEqual(contentsOf(FOLDER), before);
  await succeed("tools/plot.ts", ["--out_dir=out-a", "--kind=training_curves", "--to=without.svg"], options);
  assert.match(readFileSync(join(FOLDER, "without.svg"), "utf8"), /^<svg /);
});

test("two runs one over the other, compared, as SVG only, in the first one's folder", async () => {
  await plotted("--out_dir=out-b,out-a", "--formats=svg");
  const names = pictures("out-b");
  assert.deepEqual(
    names.map((name) => name.replace(/_out-b.*\./, ".")),
    ["comparison.svg", "learning_rate.svg", "throughput.svg", "time_split.svg", "training_curves.svg"],
  );
  const [comparison, , , , curves] = names.map((name) =>
    readFileSync(join(FOLDER, "out-b", "visualizations", name), "utf8"),
  );
  assert.match(comparison!, />3<.*>2\.5 \(best\)</s);
  assert.match(curves!, />out-b<.*>out-a</s);
});

test("one picture into a file, whose ending says how", async () => {
  await plotted("--out_dir=out-a", "--kind=training_curves", "--to=loss.svg");
  assert.match(readFileSync(join(FOLDER, "loss.svg"), "utf8"), /^<svg .*Training of out-a.*<\/svg>\n$/s);
  const flags = ["--kind=attention", "--start=ab\ncd", "--layer=1", "--to=a.png"];
  await plotted("--out_dir=out-a", ...flags);
  assert.deepEqual([...readFileSync(join(FOLDER, "a.png")).subarray(0, 4)], [0x89, ...Buffer.from("PNG")]);
});

for (const [what, flags, message] of [
  ["no run", ["--out_dir=nowhere"], /no run in nowhere/],
  ["no steps yet", ["--out_dir=out-new"], /nothing to draw: no steps in out-new yet/],
  [
    "no such numbers yet",
    ["--out_dir=out-new", "--kind=learning_rate"],
    /nothing to draw as learning_rate: no lr in out-new/,
  ],
  ["an unknown kind", ["--kind=pie"], /--kind must be "training_curves", .* or "all", got "pie"$/m],
  ["a mistyped kind", ["--kind=trainig_curves"], /got "trainig_curves"; did you mean "training_curves"\?/],
  ["an unknown format", ["--out_dir=out-a", "--formats=svg,gif"], /--formats must be svg, png or both, got "gif"/],
  [
    "a file of another kind",
    ["--out_dir=out-a", "--kind=throughput", "--to=a.pdf"],
    /--to=a.pdf must end in \.svg or \.png/,
  ],
  ["a folder that isn't", ["--out_dir=out-a", "--kind=throughput", "--to=no/a.svg"], /can't write --to=no\/a\.svg/],
  [
    "a layer too many",
    ["--out_dir=out-a", "--kind=attention", "--start=a", "--layer=2"],
    /--layer must be an integer from 0 to 1/,
  ],
  [
    "a prompt too long",
    ["--out_dir=out-a", "--kind=attention", "--start=abcabca"],
    /--start must be 1 to 6 tokens .*got 7/,
  ],
  [
    "a character that it doesn't know",
    ["--out_dir=out-a", "--kind=attention", "--start=z"],
    /no token for the character "z"/,
  ],
  ["no checkpoint", ["--out_dir=out-b", "--kind=attention"], /out-b/],
] as const) {
  test(`refused, in one line: ${what}`, async () => {
    const earlier = contentsOf(FOLDER);
    assertRefused(await runHere("tools/plot.ts", flags, FOLDER), message);
    assert.deepEqual(contentsOf(FOLDER), earlier);
    assert.ok(!existsSync(join(FOLDER, "nowhere")));
  });
}
