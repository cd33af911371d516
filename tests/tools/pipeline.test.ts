// tools/pipeline.ts as a person runs it: from a text to samples, killed and stopped on the way, and run again in parts.

import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { lock } from "../../lib/common/lock.ts";
import { ROOT } from "../../lib/common/scripts.ts";
import { readHistory } from "../../lib/monitor/metrics_file.ts";
import { loadCheckpoint, readMetadata } from "../../lib/training/checkpoint.ts";
import { resumeFolder } from "../../lib/training/run_checkpoint.ts";
import { SCRATCH } from "../../tools/pipeline/stages.ts";
import { readState, STAGES, type StageName, writeState } from "../../tools/pipeline/state.ts";
import {
  assertRefused,
  assertSucceeded,
  attempts,
  contentsOf,
  flags,
  launch,
  launchCommand,
  madeUpText,
  oneProcess,
  succeed,
  temporaryFolder,
} from "../scripts.ts";

const SCRIPT = join("tools", "pipeline.ts");
const FOLDER = temporaryFolder();
const TEXT = join(FOLDER, "words.txt");
writeFileSync(TEXT, madeUpText(6000));

const ONE_LINE = join(FOLDER, "one_line.txt"); // has no line break to begin samples with
writeFileSync(ONE_LINE, madeUpText(6000).replaceAll("\n", " "));

const SMALL = { n_layer: 1, n_head: 2, n_embd: 16, block_size: 16, eval_iters: 1, threads: 1 };
const FIXED = { batch_size: 4, micro_batch_size: 4, learning_rate: 1e-2 };
/** A search for a learning rate alone: its trials have so few steps that it ends long before the time is over. */
const SEARCHING = { ...SMALL, batch_size: 4, micro_batch_size: 4, max_iters: 20, optimize_seconds: 120 };
const DRAWN = { num_samples: 2, max_new_tokens: 20 };
const out = (name: string) => join(FOLDER, name);
const runHere = oneProcess();
/** Run the pipeline to its end, where it must get there; its stages' scripts have processes of their own. */
const pipeline = async (args: readonly string[]) => assertSucceeded(await runHere(SCRIPT, args), args.join(" "));
const stageOf = (name: string, stage: StageName) => readState(out(name))!.stages[stage]!;
const startsOf = (name: string) => STAGES.map((stage) => readState(out(name))?.stages[stage]?.started);
/** What is said of a checkpoint that loads whole. */
const loadedFrom = async (name: string) => {
  const { metadata, tensors } = await loadCheckpoint(resumeFolder(out(name))); // compares the checksum
  tensors.close();
  return metadata;
};
const heads = (text: string) => text.split("\n").filter((line) => /^\[\d\/5\]/.test(line));

test("a text becomes a model, its evaluation and samples; then parts of it run again", async (t) => {
  const name = "whole";
  const again = (settings: Record<string, string | number | boolean>) =>
    pipeline(flags({ out_dir: out(name), ...settings }));

  await t.test("a dry run tells all five stages and writes nothing", async () => {
    const before = contentsOf(FOLDER);
    const args = flags({ input_file: TEXT, out_dir: out(name), ...SMALL, dry_run: true });
    const text = await pipeline(args);
    assert.deepEqual(contentsOf(FOLDER), before);
    assert.equal(heads(text).filter((line) => line.endsWith("would run: it has not run yet")).length, 5, text);
    assert.match(text, /^ {6}npx tsx train\.ts .*--n_embd=16/m);
  });

  await t.test("the whole of it, with a search for a learning rate", async () => {
    const args = flags({ input_file: TEXT, out_dir: out(name), ...SEARCHING, ...DRAWN });
    const text = await pipeline(args);
    assert.equal(heads(text).length, 5, text);
    for (const stage of STAGES) assert.equal(stageOf(name, stage).state, "done");

    const { found, tried } = JSON.parse(readFileSync(join(out(name), "optimize.json"), "utf8"));
    assert.ok(tried.length >= 2, "it measured");
    for (const { key, steps, val_loss } of tried) assert.ok(key === "learning_rate" && steps === 20 && val_loss > 0);
    const losses = tried.map(({ val_loss }: { val_loss: number }) => val_loss);
    const best = tried[losses.indexOf(Math.min(...losses))].value;
    const [command = ""] = stageOf(name, "train").commands;
    // the best of those tried, unless it is better by less than 0.5 %
    assert.ok((found.learning_rate ?? 1e-3) === best || losses[0] - Math.min(...losses) < 0.005 * losses[0], text);
    assert.ok(command.includes(`--learning_rate=${found.learning_rate ?? 1e-3} `), command);

    const [evaluation = ""] = readdirSync(join(out(name), "evaluation"));
    assert.match(evaluation, /^eval_whole_words_\d{8}_\d{6}\.json$/);
    const figures = JSON.parse(readFileSync(join(out(name), "evaluation", evaluation), "utf8"));
    assert.equal(figures.tokens, 600, "the last tenth of the text");
    assert.ok(Math.abs(figures.perplexity - Math.exp(figures.loss)) < 1e-9 * figures.perplexity);
    assert.ok(figures.loss > 0 && figures.loss < Math.log(30), "better than chance among some 20 characters and more");
    assert.equal(readFileSync(join(out(name), "data", "val.txt"), "utf8"), madeUpText(6000).slice(5400));

    const [sample = ""] = readdirSync(join(out(name), "samples"));
    assert.match(sample, /^sample_\d{8}_\d{6}\.txt$/);
    assert.equal(statSync(join(out(name), "samples", sample)).size > 2 * 20, true);
    assert.ok(!existsSync(join(out(name), "pipeline")), "no scratch and no lock is left");
  });

  await t.test("without --resume it is refused, with it nothing is done twice", async () => {
    const before = contentsOf(out(name));
    assertRefused(await runHere(SCRIPT, flags({ input_file: TEXT, out_dir: out(name) })), /--resume=true/);
    assert.deepEqual(contentsOf(out(name)), before);
    const text = await again({ resume: true });
    assert.equal(heads(text).filter((line) => line.endsWith("finished, and nothing has changed")).length, 5, text);
    assert.deepEqual(contentsOf(out(name)), before);
  });

  await t.test("a stage whose output is gone runs again, and says why", async () => {
    const before = startsOf(name);
    const [sample = ""] = readdirSync(join(out(name), "samples"));
    rmSync(join(out(name), "samples", sample));
    assert.match(await again({ resume: true }), /^\[5\/5\] generate .*\(samples\/sample_\S+ is gone\)$/m);
    assert.deepEqual(startsOf(name).slice(0, 4), before.slice(0, 4));
  });

  await t.test("--from runs the rest, --only one stage", async () => {
    const before = startsOf(name);
    await again({ from: "generate" });
    const between = startsOf(name);
    assert.deepEqual(
      between.map((start, i) => start === before[i]),
      [true, true, true, true, false],
    );
    const text = await again({ only: "evaluate" });
    assert.equal(heads(text).length, 1);
    assert.deepEqual(
      startsOf(name).map((start, i) => start === between[i]),
      [true, true, true, false, true],
    );
  });

  await t.test("to be longer, a finished training goes on from its model", async () => {
    const { iter_num, best_val_loss } = await loadedFrom(name);
    const text = await again({ resume: true, max_iters: 40 });
    assert.match(text, new RegExp(`^ {6}resuming from \\S+ckpt\\.json, step ${iter_num}$`, "m"));
    assert.match(stageOf(name, "train").commands[0]!, /--max_iters=40 .*--init_from=resume$/);
    const { start } = readHistory(out(name));
    assert.deepEqual([start!.iter, start!.resumed], [iter_num, true], "not from step 0");
    const longer = await loadedFrom(name);
    assert.ok(longer.iter_num >= iter_num && longer.best_val_loss! <= best_val_loss!);
    for (const stage of STAGES) assert.equal(stageOf(name, stage).state, "done");
    assert.match(await again({ resume: true }), /^train it further: npx tsx .* --resume=true --max_iters=80$/m);
  });

  await t.test("the finished model stays until another training has saved its own, whatever kills it", async () => {
    const finished = await loadedFrom(name);
    const running = launch(SCRIPT, flags({ out_dir: out(name), resume: true, learning_rate: 0.02 }));
    await running.until(/^ {6}from the start: learning_rate was \S+ and is 0\.02.*; the old checkpoint is kept/m);
    running.child.kill("SIGKILL");
    await running.ended;
    assert.deepEqual(await loadedFrom(name), finished);
    const text = await again({ resume: true });
    assert.match(text, /^ {6}from the start: the training before had not saved one yet; /m);
    assert.equal((await loadedFrom(name)).config.learning_rate, 0.02);
  });

  await t.test("another text is prepared and trained on", async () => {
    writeFileSync(TEXT, `${madeUpText(5000)}!`);
    const text = await pipeline(flags({ out_dir: out(name), resume: true, dry_run: true }));
    assert.match(text, /\[1\/5\] process +would run: the text has changed\n/);
    assert.match(
      text,
      /\[3\/5\] train +would not run: finished; runs again if process makes anything else than before\n/,
    );
    writeFileSync(TEXT, madeUpText(6000));
    rmSync(join(out(name), "data", "val.txt"));
    const only = await runHere(SCRIPT, flags({ out_dir: out(name), only: "train" }));
    assertRefused(only, /--only=train needs process before it: data\/val\.txt is gone; use --from=process/);
  });
});

test("killed in process, stopped and killed in train, killed in evaluate: each time it goes on from there", async () => {
  const name = "killed";
  const settings = { ...SMALL, ...FIXED, max_iters: 3000, eval_interval: 50, log_interval: 50, ...DRAWN };
  const resume = flags({ out_dir: out(name), resume: true });
  const kill = async (running: ReturnType<typeof launch>) => {
    running.child.kill("SIGKILL");
    assert.equal((await running.ended).signal, "SIGKILL");
  };

  const running = async (stage: StageName) => {
    while (readState(out(name))?.stages[stage]?.state !== "running") await wait(5);
  };

  // 1) process
  const first = launch(SCRIPT, flags({ input_file: ONE_LINE, out_dir: out(name), ...settings }));
  await first.until(/^\[1\/5\] process/m);
  await running("process");
  await kill(first);
  assert.equal(stageOf(name, "process").state, "running", "it was killed too late");

  // 2) train: Ctrl-C
  const second = launch(SCRIPT, resume);
  await second.until(/^\[1\/5\] process/m);
  await second.until(/^ {6}step 50: /m);
  second.child.kill("SIGINT");
  const stopped = await second.ended;
  assert.match(stopped.stdout, /^\[1\/5\] process .*\(it was killed\)$/m);
  assert.match(stopped.stdout, /^stopped; continue with: npx tsx tools\/pipeline\.ts --out_dir=\S+ --resume=true$/m);
  assert.deepEqual([stopped.code, stopped.stderr], [130, ""]);
  assert.equal(stageOf(name, "train").state, "stopped");
  const iterNum = () => readMetadata(resumeFolder(out(name))).iter_num;
  const saved = iterNum();
  assert.ok(saved >= 50 && saved < 3000, `the checkpoint of step ${saved}`);
  const [processed, optimized] = startsOf(name).slice(0, 2);

  // 3) train: kill -9. No evaluation saves here, but train.ts itself does once the pipeline is gone
  const third = launch(SCRIPT, [...resume, "--eval_interval=100000"]);
  const later = saved + 20;
  await third.until(new RegExp(`^ {6}resuming from .*, step ${saved}$`, "m"));
  while (readHistory(out(name)).iter < later && third.child.exitCode === null) await wait(5);
  await kill(third);
  assert.match(stageOf(name, "train").commands[0]!, /--eval_interval=100000 .*--init_from=resume$/);
  while (existsSync(join(out(name), "lock.json"))) await wait(5);
  assert.ok(iterNum() >= later, `saved at ${iterNum()}, and ${later} steps were made`);

  // 4) evaluate
  const fourth = launch(SCRIPT, resume);
  await fourth.until(/^\[4\/5\] evaluate/m);
  await running("evaluate");
  await kill(fourth);
  const { commands, started: trained, state } = stageOf(name, "train");
  assert.equal(state, "done");
  assert.match(commands[0]!, /--init_from=resume$/);
  assert.equal(stageOf(name, "evaluate").state, "running", "it was killed too late");

  // 5) the rest, and none of the finished stages again
  const text = await pipeline(resume);
  assert.deepEqual(startsOf(name).slice(0, 3), [processed, optimized, trained]);
  for (const stage of STAGES) assert.equal(stageOf(name, stage).state, "done");
  assert.match(text, /^\[4\/5\] evaluate .*\(it was killed\)$/m);
  assert.ok(iterNum() >= later);
  const [sample = ""] = readdirSync(join(out(name), "samples"));
  assert.match(
    readFileSync(join(out(name), "samples", sample), "utf8"),
    /^ /,
    "they begin with a character that is there",
  );
});

const stopUnderTsx = async (attempt: number) => {
  const name = `signals${attempt}`;
  const here = out(name);
  mkdirSync(here);
  const folder = join(here, "out-words");
  const tsx = createRequire(import.meta.url).resolve("tsx/cli"); // what npx tsx runs
  const start = (args: string[]) => launchCommand(process.execPath, [tsx, join(ROOT, SCRIPT), ...args], { cwd: here });
  const settings = { ...SMALL, ...FIXED, max_iters: 1e6, eval_interval: 50, log_interval: 50, ...DRAWN };
  let saved = 0;
  for (const [signal, args] of [
    ["SIGINT", flags({ input_file: TEXT, ...settings })],
    ["SIGTERM", ["--resume"]],
  ] as const) {
    const { child, until, ended } = start([...args]);
    await until(saved === 0 ? /^ {6}step 50: /m : /^ {6}step \d+: (.|\n)*^ {6}step \d+: /m);
    const { pid } = JSON.parse(readFileSync(join(folder, SCRATCH, "lock.json"), "utf8"));
    assert.notEqual(pid, child.pid, "tsx' command line is a process of its own");
    child.kill(signal);
    if (signal === "SIGINT") process.kill(pid, signal); // a terminal sends it to all of its processes
    const { code, stdout } = await ended;
    assert.equal(code, signal === "SIGINT" ? 130 : 143, stdout);
    assert.equal(stdout.match(/: waiting for the stage to stop; once more ends it at once$/gm)?.length, 1, stdout);
    assert.match(stdout, /^stopped; continue with: npx tsx \S+ --out_dir=out-words --resume=true$/m);
    assert.equal(stageOf(join(name, "out-words"), "train").state, "stopped");
    const { iter_num } = await loadedFrom(join(name, "out-words"));
    assert.ok(iter_num >= 50 && iter_num > saved, `saved at ${iter_num} after ${saved}`);
    if (saved > 0) assert.match(stdout, new RegExp(`resuming from .*, step ${saved}$`, "m"));
    saved = iter_num;
  }
};

test("under tsx' command line Ctrl-C and SIGTERM are answered once, the training is saved, and --resume alone goes on", () =>
  attempts(stopUnderTsx));

test("pipeline and trial killed in optimize: the search is made anew, and nothing of the old one stays", async () => {
  const name = "search_killed";
  const trial = join(out(name), SCRATCH, "trial");
  const first = launch(SCRIPT, flags({ input_file: TEXT, out_dir: out(name), ...SEARCHING, ...DRAWN }));
  const pidOfTrial = () => {
    const path = join(trial, "lock.json");
    return Number(/"pid":(\d+)/.exec(existsSync(path) ? readFileSync(path, "utf8") : "")?.[1] ?? 0);
  };
  let pid = 0;
  while (pid === 0 && first.child.exitCode === null) {
    await wait(5);
    pid = pidOfTrial();
  }
  process.kill(pid, "SIGSTOP"); // else it would end by itself as soon as the pipeline is gone
  first.child.kill("SIGKILL");
  assert.equal((await first.ended).signal, "SIGKILL");
  process.kill(pid, "SIGKILL");
  assert.equal(stageOf(name, "optimize").state, "running");
  assert.ok(existsSync(trial) && !existsSync(join(out(name), "optimize.json")), "killed within the search");
  const [processed] = startsOf(name);

  const text = await pipeline(flags({ out_dir: out(name), only: "optimize" }));
  assert.match(text, /^\[2\/5\] optimize/m);
  assert.equal(stageOf(name, "optimize").state, "done");
  const { commands } = stageOf(name, "optimize");
  const { tried } = JSON.parse(readFileSync(join(out(name), "optimize.json"), "utf8"));
  assert.ok(tried.length >= 2 && commands.length > tried.length, "a whole search: a step's time and each trial");
  assert.equal(startsOf(name)[0], processed);
  assert.ok(!existsSync(join(out(name), SCRATCH)), "no scratch and no lock is left");
});

test("what can't work is refused in one line, and nothing is written", async () => {
  const cases: [Record<string, string | number>, RegExp][] = [
    [{}, /give one with --input_file=my\.txt/],
    [{ input_file: join(FOLDER, "none.txt") }, /no file .*none\.txt/],
    [{ input_file: TEXT, from: "training" }, /--from=training is none of process, optimize, train, evaluate, generate/],
    [{ input_file: TEXT, only: "train" }, /--only=train needs process before it: it has not run yet/],
    [{ input_file: TEXT, n_layers: 3 }, /did you mean n_layer\?/],
    [{ input_file: TEXT, architecture: "encoder" }, /architecture encoder is for train\.ts/],
  ];
  const before = contentsOf(FOLDER);
  for (const [settings, message] of cases) {
    const args = flags({ ...("input_file" in settings && { out_dir: out("refused") }), ...settings });
    assertRefused(await runHere(SCRIPT, args), message);
  }
  assert.deepEqual(contentsOf(FOLDER), before);
});

test("what a config file extends, and NANOGPT_ENV's file, are no flags: they are searched all the same", async () => {
  const config = join(FOLDER, "extends.json");
  const base = join(FOLDER, "extended.yaml");
  writeFileSync(config, JSON.stringify({ extends: "extended.yaml", ...SMALL, threads: 0, eval_iters: 7 }));
  writeFileSync(base, "n_embd: 8\nlearning_rate: 0.02\nbatch_size: 4\n");
  const args = [config, ...flags({ input_file: TEXT, out_dir: out("extends"), batch_size: 5, dry_run: true })];
  const text = await succeed(SCRIPT, args, { env: { NANOGPT_ENV: "testing" } });
  assert.match(text, /^ {6}npx tsx train\.ts .*--eval_iters=7 .*--n_embd=16 .*--learning_rate=0\.02 /m);
  assert.match(text, /^ {6}threads, micro_batch_size, learning_rate, in 60 s$/m); // batch_size is a flag

  // going on in another environment: what was given before stays
  const given = { eval_iters: { from: "file" as const, value: 9 }, input_file: { from: "flag" as const, value: TEXT } };
  mkdirSync(out("extends"));
  writeState(out("extends"), { format_version: 1, given, config_file: null, stages: {} });
  const again = flags({ out_dir: out("extends"), resume: true, dry_run: true, block_size: 16 });
  const resumed = await succeed(SCRIPT, again, { env: { NANOGPT_ENV: "testing" } });
  assert.match(resumed, /^ {6}npx tsx train\.ts .*--eval_iters=9 .*--threads=1 /m);
});

test("while one pipeline works in a folder, another one is refused", async () => {
  const folder = out("locked");
  const release = lock(join(folder, SCRATCH), "a pipeline");
  const ended = await runHere(SCRIPT, flags({ input_file: TEXT, out_dir: folder, ...SMALL }));
  release();
  assertRefused(ended, new RegExp(`locked/pipeline is in use: a pipeline in process ${process.pid} `));
  assert.ok(!existsSync(folder));
});
