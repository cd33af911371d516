// Stops scripts as a person does: `npx tsx train.ts ...` on a terminal of its own, Ctrl-C typed there, or a SIGTERM to tsx, which
// passes it on and kills a script that doesn't answer within 60 ms. interrupts.test.ts does it once each;
//
//   npx tsx tests/interrupts.ts 10           ten times each, with the baby GPT's shape
//   npx tsx tests/interrupts.ts 10 step      at one of the moments alone, or `others`: other scripts

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { isMain } from "../lib/common/main_module.ts";
import { loadCheckpoint } from "../lib/training/checkpoint.ts";
import { launchCommand, madeUpText, ROOT, succeed, temporaryFolder, tinyDataset } from "./scripts.ts";

export const hasTerminal =
  process.platform === "linux" &&
  spawnSync("script", ["--version"], { encoding: "utf8" }).stdout?.includes("util-linux") === true;

export type Signal = "SIGINT" | "SIGTERM";
const CODES = { SIGINT: 130, SIGTERM: 143 };

export interface Stopped {
  code: number | null;
  output: string;
  /** From the signal to the line that answers it. */
  answer_ms: number;
}

/**
 * Start `npx tsx SCRIPT ARGS` on a terminal, wait for `when` in its output, and `delay` ms more, and stop it.
 * @param mark one of the arguments, by which the process is found
 */
export async function stopUnderNpx(
  script: string,
  args: readonly string[],
  mark: string,
  when: RegExp,
  signal: Signal,
  delay = 0,
): Promise<Stopped> {
  const quoted = [resolve(ROOT, script), ...args].map((word) => `'${word}'`).join(" ");
  const command = `stty rows 24 cols 200 -echo; exec npx tsx ${quoted}`;
  const running = launchCommand("script", ["-qec", command, "/dev/null"], { timeout: 300_000 });
  let output = "";
  let sent = 0;
  let answered = 0;
  running.child.stdout!.on("data", (part) => {
    output += part;
    if (sent && !answered && output.includes(`${signal}: `)) answered = performance.now();
  });
  await running.until(when);
  if (delay) await new Promise((resolve) => setTimeout(resolve, delay));
  sent = performance.now();
  if (signal === "SIGINT") running.child.stdin!.write("\x03");
  else process.kill(tsxOf(mark), "SIGTERM");
  const { code } = await running.ended;
  return { code, output, answer_ms: answered ? answered - sent : Number.POSITIVE_INFINITY };
}

/** The process of tsx' command line that runs a script with this argument. */
function tsxOf(mark: string): number {
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    let words: string[];
    try {
      words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    } catch {
      continue; // it has ended
    }
    if (words.includes(mark) && /node$/.test(words[0]!) && /\btsx$/.test(words[1]!)) return Number(pid);
  }
  return assert.fail(`no tsx runs with ${mark}`);
}

/** What a run's folder holds: the step of its checkpoint, whole, or nothing; and no lock. */
export async function stepOf(folder: string): Promise<number | undefined> {
  assert.ok(!existsSync(join(folder, "lock.json")), "the lock was left behind");
  if (!existsSync(join(folder, "ckpt.json"))) return undefined;
  const { metadata, tensors } = await loadCheckpoint(folder);
  tensors.close();
  return metadata.iter_num;
}

export const SIGNALS = ["SIGINT", "SIGTERM"] as const;
/** Where in a run, by what is printed last before: from there on it compiles, evaluates, or steps. */
export const MOMENTS = {
  compile: /tokens per iteration will be/,
  "first evaluation": / 0\/\d+ \|/, // the progress bar begins
  step: /iter 1: loss/,
} as const;

/** Stop a training run at a moment; asserts that it answers, ends with the signal's code, and leaves what it had. */
export async function stopTraining(
  folder: string,
  settings: readonly string[],
  moment: keyof typeof MOMENTS,
  signal: Signal,
  delay: number,
): Promise<Stopped> {
  const out = join(folder, `${moment}-${signal}-${delay}`.replaceAll(/[ .]/g, "-"));
  const mark = `--out_dir=${out}`;
  const stopped = await stopUnderNpx("train.ts", [...settings, mark], mark, MOMENTS[moment], signal, delay);
  assert.equal(stopped.code, CODES[signal], stopped.output.slice(-300));
  assert.ok(stopped.answer_ms < Number.POSITIVE_INFINITY, `no answer, and then: ${stopped.output.slice(-300)}`);
  const step = await stepOf(out);
  if (moment === "step") assert.ok(step !== undefined && step >= 2, `a checkpoint of step ${step}`);
  return stopped;
}

/** Other scripts, at work: what to type, the last word to find them by, and what they print then. @param round makes folders new */
function otherScripts(
  folder: string,
  dataset: string,
  round: string,
): [script: string, args: string[], when: RegExp][] {
  const out = `--out_dir=${join(folder, "done")}`;
  const shape = [
    "--n_layer=2",
    "--n_head=2",
    "--n_embd=64",
    "--block_size=64",
    "--batch_size=8",
    `--dataset=${dataset}`,
  ];
  const experiment = join(folder, "two.json");
  const base = { dataset, n_layer: 2, n_head: 2, n_embd: 64, block_size: 64, batch_size: 8, max_iters: 1e6 };
  writeFileSync(
    experiment,
    JSON.stringify({ name: "two", base: { ...base, threads: 1 }, axes: { dropout: [0, 0.1] } }),
  );
  const text = join(folder, "words.txt");
  writeFileSync(text, madeUpText(6000));
  const small = [
    "--n_layer=1",
    "--n_head=2",
    "--n_embd=16",
    "--block_size=16",
    "--batch_size=4",
    "--micro_batch_size=4",
  ];
  const fixed = [...small, "--learning_rate=0.01", "--max_iters=1000000", "--eval_iters=1", "--eval_interval=50"];
  return [
    ["sample.ts", ["--start=anchor bellow", "--max_new_tokens=1000000", out], /\nanchor bellow/],
    ["tools/evaluate.ts", [out, "--stride=1", `--dataset=${dataset}`], /\d \| /],
    ["bench.ts", [...shape, "--benchmark=training_throughput", "--steps=1000000", `--results=${folder}`], /overriding/],
    ["tools/experiment.ts", ["run", experiment, `--out=${join(folder, "two")}`], /\d\/1000000/],
    [
      "tools/pipeline.ts",
      [`--input_file=${text}`, ...fixed, `--out_dir=${join(folder, `pipe-${round}`)}`],
      /step \d+: /,
    ],
  ];
}

/** Each of them stopped `count` times by each signal: asserts the line and the code. */
async function stopOthers(folder: string, dataset: string, count: number): Promise<void> {
  const shape = ["--n_layer=2", "--n_head=2", "--n_embd=64", "--block_size=64", "--max_iters=20", "--eval_iters=1"];
  await succeed("train.ts", [`--dataset=${dataset}`, `--out_dir=${join(folder, "done")}`, ...shape]);
  for (const [place, [script]] of otherScripts(folder, dataset, "").entries()) {
    for (const signal of SIGNALS) {
      await repeat(`${script}, ${signal}`, count, async (i) => {
        const [, args, when] = otherScripts(folder, dataset, `${signal}-${i}`)[place]!;
        const stopped = await stopUnderNpx(script, args, args.at(-1)!, when, signal, 1000 + 100 * i); // in the middle of it
        assert.equal(stopped.code, CODES[signal], stopped.output.slice(-300));
        return stopped;
      });
    }
  }
}

/** Count and tell how often `stop` found what it asserts, and how soon it was answered. */
async function repeat(what: string, count: number, stop: (i: number) => Promise<Stopped>): Promise<void> {
  const answers: number[] = [];
  for (let i = 0; i < count; i++) {
    try {
      const { answer_ms, output } = await stop(i);
      assert.ok(answer_ms < Number.POSITIVE_INFINITY, `no answer, and then: ${output.slice(-300)}`);
      answers.push(answer_ms);
    } catch (error) {
      console.log(String(error).slice(0, 600));
    }
  }
  answers.sort((a, b) => a - b);
  const times = answers.length ? `answered in ${answers.map((ms) => ms.toFixed(0)).join(", ")} ms` : "";
  console.log(`${what}: ${answers.length} of ${count} ${times}`);
}

const BABY = { n_layer: 6, n_head: 6, n_embd: 384, block_size: 256, batch_size: 16, dropout: 0.2 };

/** Each script, moment and signal `count` times, training with the baby GPT's shape. */
async function main(count: number, only?: string): Promise<void> {
  const folder = temporaryFolder();
  const dataset = tinyDataset(folder, 100_000);
  const settings = Object.entries({ ...BABY, dataset, gradient_accumulation_steps: 1, eval_iters: 2, log_interval: 1 });
  const flags = settings.map(([key, value]) => `--${key}=${value}`);
  if (!only || only === "others") await stopOthers(folder, dataset, count);
  for (const moment of Object.keys(MOMENTS) as (keyof typeof MOMENTS)[]) {
    if (only && only !== moment) continue;
    for (const signal of SIGNALS) {
      await repeat(`${moment}, ${signal}`, count, (i) => {
        const delay = Math.round(((moment === "compile" ? 400 : 1500) * i) / count);
        return stopTraining(folder, flags, moment, signal, delay);
      });
    }
  }
}

if (isMain(import.meta.url)) await main(Number(process.argv[2] ?? 1), process.argv[3]);
