// docs/extending.md, performed: a copy of the repository gets the page's edits, one exercise after the other, and runs its
// commands, with smaller models and fewer steps. So a change that breaks an exercise has to change the page.

import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";

import { SafetensorsFile } from "../lib/common/safetensors.ts";
import { copyHouse } from "./house_copy.ts";
import { assertRefused, launchCommand, once, ROOT } from "./scripts.ts";

const SMALL = ["--n_layer=1", "--n_head=2", "--n_embd=16", "--block_size=16", "--batch_size=4", "--threads=1"];
const SHORT = ["--eval_interval=5", "--eval_iters=1", "--warmup_iters=0"];

/** What a flag of the page becomes here. */
const SMALLER: Record<string, (value: number) => number> = {
  "--max_iters": (steps) => steps / 50,
  "--lines": () => 2000,
  "--max_minutes": () => 0.0001,
};

// a GPU in software, which Debian's Chromium brings: with it WebGPU runs where there is no GPU
const CHROMIUM = "/usr/lib/chromium";
const SWIFTSHADER = join(CHROMIUM, "vk_swiftshader_icd.json");
const SOFTWARE_GPU = { VK_ICD_FILENAMES: SWIFTSHADER, LD_LIBRARY_PATH: CHROMIUM };

interface Edit {
  path: string;
  kind: "ts" | "diff"; // a new file, or lines to add and to remove
  text: string;
}

interface Exercise {
  title: string;
  edits: Edit[];
  commands: string[]; // such as "npx tsx train.ts --dataset=sums"
}

/** Reads the page: its "## 1. ..." sections, their blocks with the path before them, and their commands. */
function exercisesIn(page: string): Exercise[] {
  const sections = page.split(/^## (?=\d+\. )/m).slice(1);
  return sections.map((section) => ({
    title: section.slice(0, section.indexOf("\n")),
    edits: [...section.matchAll(/^(?:New file|In) `([^`]+)`:\n\n```(ts|diff)\n(.*?)^```$/gms)].map(
      ([, path, kind, text]) => ({ path: path!, kind: kind as Edit["kind"], text: text! }),
    ),
    commands: [...section.matchAll(/^```sh\n(.*?)^```$/gms)].flatMap(([, text]) => text!.trim().split("\n")),
  }));
}

/** The file with a block's lines changed; the lines that stay and those that go must be there once. */
function changed(file: string, { path, text }: Edit): string {
  const lines = text.trimEnd().split("\n");
  const side = (sign: string) =>
    lines.flatMap((line) => (line[0] === sign || line[0] === " " ? [line.slice(1)] : [])).join("\n");
  const [before, after] = [`${side("-")}\n`, `${side("+")}\n`];
  assert.ok(
    lines.every((line) => /^[ +-]/.test(line)),
    `${path}: a line begins with " ", "+" or "-":\n${text}`,
  );
  assert.equal(file.split(`\n${before}`).length, 2, `${path} has these lines once:\n${before}`);
  return file.replace(`\n${before}`, () => `\n${after}`);
}

const house = copyHouse();
const exercises = exercisesIn(readFileSync(join(ROOT, "docs", "extending.md"), "utf8"));

function apply(edit: Edit): void {
  const path = join(house.folder, edit.path);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, edit.kind === "ts" ? edit.text : changed(readFileSync(path, "utf8"), edit));
}

/** Run a command of the page; gives what it printed, on stderr first. */
async function runCommand(command: string): Promise<string> {
  const words = [...command.replace(/ +#.*/, "").matchAll(/(?:[^\s"]|"[^"]*")+/g)].map(([word]) =>
    word.replaceAll('"', ""),
  );
  assert.deepEqual(words.slice(0, 2), ["npx", "tsx"], command);
  const [script, ...args] = words.slice(2);
  const fewer = args.map((arg) => {
    const [key = "", value] = arg.split("=");
    return key in SMALLER ? `${key}=${SMALLER[key]!(Number(value))}` : arg;
  });
  const all = [...fewer, ...(script === "train.ts" ? [...SMALL, ...SHORT] : [])];
  const ended = await house.launch(script!, all, existsSync(SWIFTSHADER) ? { env: SOFTWARE_GPU } : {}).ended;
  if (args.includes("--device=webgpu") && ended.code !== 0) {
    assertRefused(ended, /^error: WebGPU finds no GPU; take --device=cpu$/m);
    return "";
  }
  assert.equal(ended.code, 0, `${command}\n${ended.stdout}${ended.stderr}`);
  return ended.stderr + ended.stdout;
}

/** Do an exercise, after those before it, which it may build on; gives what its commands printed. */
const outputs: (() => Promise<string[]>)[] = exercises.map(({ edits, commands }, i) =>
  once(async () => {
    await outputs[i - 1]?.();
    for (const edit of edits) apply(edit);
    const printed: string[] = [];
    for (const command of commands) printed.push(await runCommand(command));
    return printed;
  }),
);

/** The numbers of a run's metrics.jsonl by name, in their order. */
function metricsOf(outDir: string, name: string): number[] {
  const lines = readFileSync(join(house.folder, outDir, "metrics.jsonl"), "utf8")
    .trim()
    .split("\n");
  return lines.flatMap((line) => JSON.parse(line)[name] ?? []);
}

/** A run's settings, as its checkpoint keeps them. */
function configOf(outDir: string): Record<string, unknown> {
  return JSON.parse(readFileSync(join(house.folder, outDir, "ckpt.json"), "utf8")).config;
}

/** What shows that an exercise does what it says, by its title. */
const CHECKS: Record<string, (printed: string[]) => void> = {
  "1. A dataset": ([prepared, , sample]) => {
    assert.match(prepared!, /^vocab_size: +13$/m); // ten digits, +, = and the line's end
    assert.match(sample!, /12\+34=/);
  },
  "2. A callback": ([trained]) => {
    assert.match(trained!, /step 5: validation loss (above|below) training loss by \d\.\d{3}/);
    const gap = metricsOf("out-overfit", "gap");
    const [train, val] = ["train/loss", "val/loss"].map((name) => metricsOf("out-overfit", name));
    assert.equal(gap.length, val!.length);
    for (const [i, loss] of val!.entries()) assert.ok(Math.abs(gap[i]! - (loss - train![i]!)) < 2e-6); // six digits are kept
  },
  "3. A setting": ([trained]) => {
    assert.match(trained!, /0\.0001 minutes are over \(max_minutes\)/);
    assert.equal(configOf("out-brief").max_minutes, 0.0001);
  },
  "4. An operation for the engine": ([compared]) => {
    assert.equal(configOf("out-selu").ffn, "selu");
    const [value, slope, plainValue, plainSlope] = compared!.trim().split("\n");
    assert.match(value!, /^-1.52017 -0.69176 0.52535 2.10140$/); // 1.0507 x, and 1.0507 * 1.67326 (exp(x) - 1) below zero
    assert.deepEqual([value, slope], [plainValue, plainSlope]);
  },
  "5. An optimizer": () => {
    for (const loss of metricsOf("out-rmsprop", "loss")) assert.ok(Number.isFinite(loss));
    assert.equal(metricsOf("out-rmsprop", "iter").at(-1), 12); // ten steps at first, two more after the resume
    assert.equal(configOf("out-rmsprop").optimizer, "rmsprop");
    const { weights } = JSON.parse(readFileSync(join(house.folder, "out-rmsprop", "ckpt.json"), "utf8"));
    const file = new SafetensorsFile(join(house.folder, "out-rmsprop", weights.file));
    const states = [...file.entries.keys()].filter((name) => name.startsWith("optimizer."));
    file.close();
    assert.ok(states.length > 0 && states.every((name) => name.startsWith("optimizer.exp_avg_sq.")));
  },
  "6. A device": ([onGpu]) => {
    const [gpu, cpu] = ["out-webgpu", "out-cpu"].map((outDir) =>
      existsSync(join(house.folder, outDir, "metrics.jsonl")) ? metricsOf(outDir, "loss") : [],
    );
    assert.equal(cpu!.length, 10);
    if (onGpu === "") return; // none here: it was refused in a line
    assert.equal(gpu!.length, 10);
    for (const [i, loss] of gpu!.entries())
      assert.ok(Math.abs(loss - cpu![i]!) < 1e-4, `step ${i}: ${loss}, ${cpu![i]}`);
  },
  "7. Attention": ([trained, cached, plain]) => {
    for (const printed of [trained, cached, plain]) assert.match(printed!, /^attention is not GPT-2's any more/m);
    assert.match(trained!, /step 10: train loss \d/);
    assert.match(cached!, /12\+34=/);
    const textOf = (printed: string) => printed.slice(printed.lastIndexOf("12+34="));
    assert.equal(textOf(cached!), textOf(plain!));
  },
};

test("the page has the exercises that are checked here", () => {
  assert.deepEqual(
    exercises.map(({ title }) => title),
    Object.keys(CHECKS),
  );
  for (const { edits, commands } of exercises) assert.ok(edits.length > 0 && commands.length > 0);
});

for (const [i, { title }] of exercises.entries()) {
  test(title, async () => CHECKS[title]!(await outputs[i]!()));
}

test("all of them together are typed", async () => {
  for (const output of outputs) await output();
  const tsc = join(ROOT, "node_modules", "typescript", "bin", "tsc");
  const { code, stdout } = await launchCommand(process.execPath, [tsc, "--noEmit"], { cwd: house.folder }).ended;
  assert.equal(code, 0, stdout);
});
