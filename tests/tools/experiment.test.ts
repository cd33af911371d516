// tools/experiment.ts as a person runs it, on runs of a second: kill -9 and Ctrl-C at bad moments cost nothing, a run
// that fails doesn't stop the others, and mistakes get one line before anything runs.

import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { UserError } from "../../lib/common/errors.ts";
import { type MetricsEvent, MetricsReader } from "../../lib/monitor/metrics_file.ts";
import { ExperimentConfig, type ExperimentSettings } from "../../tools/experiment/experiment_config.ts";
import { runExperiment } from "../../tools/experiment/runner.ts";
import {
  assertRefused,
  assertSucceeded,
  contentsOf,
  eventually,
  launch,
  once,
  oneProcess,
  succeed,
  temporaryFolder,
  tinyDataset,
} from "../scripts.ts";

const FOLDER = temporaryFolder();
const TINY = {
  dataset: tinyDataset(FOLDER),
  ...{ n_layer: 1, n_head: 1, n_embd: 16, block_size: 16, batch_size: 4, gradient_accumulation_steps: 1 },
  ...{ learning_rate: 1e-2, warmup_iters: 0, lr_decay_iters: 20, max_iters: 20, eval_interval: 10, eval_iters: 1 },
  threads: 1,
};

function experimentFile(name: string, settings: Partial<ExperimentSettings>): string {
  const path = join(FOLDER, `${name}.json`);
  writeFileSync(path, JSON.stringify({ name, base: TINY, ...settings }));
  return path;
}

const tool = (...args: string[]) => launch("tools/experiment.ts", args, { cwd: FOLDER, timeout: 180_000 });
const runHere = oneProcess();
const refuse = async (message: RegExp, ...args: string[]) =>
  assertRefused(await runHere("tools/experiment.ts", args, FOLDER), message);
/** What a command printed that trains nothing. */
const told = async (...args: string[]) =>
  assertSucceeded(await runHere("tools/experiment.ts", args, FOLDER), args.join(" "));

const folderOf = (out: string, trial: string) => join(FOLDER, "out-experiments", out, trial, "seed-1337");
const eventsOf = (folder: string): MetricsEvent[] => new MetricsReader(folder).read();
const startsOf = (folder: string) => eventsOf(folder).filter((event) => event.event === "start");
/** Tell the process that trains in a folder something. */
const signal = (folder: string, name: NodeJS.Signals) => process.kill(startsOf(folder).at(-1)!.pid, name);

async function untilEvent(folder: string, name: MetricsEvent["event"]): Promise<void> {
  await eventually(() => eventsOf(folder).some(({ event }) => event === name), `${name} in ${folder}`);
}

/** What a run came to: its weights' checksum and its figures, apart from times. */
function outcomeOf(folder: string) {
  const { weights } = JSON.parse(readFileSync(join(folder, "ckpt.json"), "utf8"));
  const { metrics, history } = JSON.parse(readFileSync(join(folder, "results.json"), "utf8"));
  return [weights.sha256, metrics["val/loss"], history["val/loss"], history.loss];
}

// some seconds each, saved every 125 steps
const LONG = { ...TINY, max_iters: 1000, lr_decay_iters: 1000, eval_interval: 125, log_interval: 100 };
const TRIALS = ["n_head=1", "n_head=2"];
const long = (name: string) => experimentFile(name, { base: LONG, axes: { n_head: [1, 2] } });

/** Two runs whose tool was killed, "orphan". */
const orphan = once(async () => {
  const [first, second] = TRIALS.map((trial) => folderOf("orphan", trial));
  const file = long("orphan");
  const killed = tool("run", file);
  await killed.until(/^n_head=1, seed 1337: val\/loss/m);
  await untilEvent(second!, "start");
  killed.child.kill("SIGKILL");
  await killed.ended;
  signal(second!, "SIGSTOP"); // so that it is still there when the next one looks
  assert.ok(!existsSync(join(second!, "results.json")));
  const before = contentsOf(first!);

  const next = tool("run", file);
  await next.until(/waiting until it ends$/m);
  signal(second!, "SIGCONT");
  const { code, stdout, stderr } = await next.ended;
  assert.equal(code, 0, stdout + stderr);
  assert.match(stdout, /1 finished before/);
  assert.match(stdout, /n_head=2, seed 1337: .* is in use: .* in process \d+ .*; waiting until it ends\n/);
  assert.deepEqual(contentsOf(first!), before);
  assert.equal(startsOf(second!).length, 1);
  assert.deepEqual(
    readdirSync(second!)
      .filter((name) => /\.jsonl?$|output/.test(name))
      .sort(),
    ["ckpt.json", "config.json", "environment.json", "metrics.jsonl", "output.log", "results.json"],
  );
  const results = JSON.parse(readFileSync(join(second!, "results.json"), "utf8"));
  assert.equal(results.iter, 1000);
  for (const name of [
    "val/loss",
    "train/loss",
    "perplexity",
    "wall_s",
    "parameters",
    "train_tokens_per_s",
    "inference_tokens_per_s",
  ]) {
    assert.ok(results.metrics[name] > 0, `${name} is ${results.metrics[name]}`);
  }
  const environment = JSON.parse(readFileSync(join(second!, "environment.json"), "utf8"));
  assert.equal(environment.versions.node, process.versions.node);
  assert.equal(environment.seed, 1337);
});

test("kill -9 of the tool: the run that lives on is waited for, and nothing is done twice", orphan);

test("kill -9 of tool and run, a second tool, Ctrl-C: resumed each time, to the same result as undisturbed", async () => {
  const [first, second] = TRIALS.map((trial) => folderOf("killed", trial));
  const file = long("killed");
  await orphan(); // to compare with
  // 1) both are killed once there is a checkpoint
  const killed = tool("run", file);
  await untilEvent(first!, "checkpoint");
  killed.child.kill("SIGKILL");
  signal(first!, "SIGKILL");
  await killed.ended;

  // 2) the next goes on from it; a second one is refused meanwhile; Ctrl-C lets the second run save
  const interrupted = tool("run", file, "--jobs=1");
  await interrupted.until(/^n_head=1, seed 1337: resuming from its checkpoint$/m);
  while (startsOf(first!).length < 2) await sleep(20);
  signal(first!, "SIGSTOP");
  await refuse(/out-experiments.killed is in use: an experiment in process \d+/, "run", file);
  signal(first!, "SIGCONT");
  await untilEvent(second!, "checkpoint");
  interrupted.child.kill("SIGINT");
  const { code, stdout } = await interrupted.ended;
  assert.equal(code, 130);
  const [, command] =
    /^stopped with 1 runs finished and 1 left; continue with: npx tsx tools\/experiment\.ts (.*)$/m.exec(stdout)!;
  assert.equal(command, `run ${file} --jobs=1`);
  assert.ok(eventsOf(second!).some((event) => event.event === "end" && event.reason === "interrupted"));

  // 3) the command that it named
  await succeed("tools/experiment.ts", command!.split(" "), { cwd: FOLDER });
  for (const [i, trial] of TRIALS.entries()) {
    const folder = folderOf("killed", trial);
    assert.equal(startsOf(folder).length, 2, trial);
    assert.deepEqual(outcomeOf(folder), outcomeOf(folderOf("orphan", TRIALS[i]!)), trial);
  }
});

test("a run that fails is told of at the end, and others go on; other settings and folders are refused", async () => {
  const list = [{ block_size: 100_000 }, {}, { wandb_run_name: "<b>" }];
  const file = experimentFile("failing", { search: "list", list, jobs: 2 });
  const { code, stdout, stderr } = await tool("run", file).ended;
  assert.equal(code, 1);
  assert.match(stdout, /^block_size=100000, seed 1337: failed: .*block_size/m);
  assert.match(stderr, /^failed: block_size=100000, seed 1337: [^\n]*block_size[^\n]*\n1 of 3 runs failed; [^\n]*\n$/);
  assert.match(stdout, /^\* .* {2}plain|^\* /m);

  const listed = await told("list");
  assert.match(listed, /^out-experiments\/failing +3 +2 +0 +1 +0 +val\/loss \d/m);
  // trials by name, and a run's folder by its path
  const run = join("out-experiments", "failing", "base", "seed-1337");
  const compared = await told("compare", "failing/base", run);
  assert.match(compared, /^\* +base +1 /m);
  assert.match(compared, /^\*? +seed-1337 +1 /m);
  const report = await told("report", "failing");
  assert.match(report, /^wrote .*report\.md, .*report\.html$/m);
  const page = readFileSync(join(FOLDER, "out-experiments", "failing", "report.html"), "utf8");
  assert.match(page, /wandb_run_name=&lt;b&gt;/);
  assert.doesNotMatch(page, /<b>/);

  // what is there was made with other settings, or is something else; nothing is touched
  const before = contentsOf(join(FOLDER, "out-experiments"));
  const refuseIn = async (message: RegExp, path: string, out: string) => {
    const experiment = await ExperimentConfig.load(path);
    await assert.rejects(runExperiment(experiment, { out: join(FOLDER, out) }), (error: Error) => {
      assert.ok(error instanceof UserError, error.stack);
      assert.match(error.message, message);
      return true;
    });
  };
  const changed = experimentFile("failing", { search: "list", list, base: { ...TINY, max_iters: 30 } });
  const begun =
    /^block_size=100000, seed 1337 was begun in .* with max_iters 20, now 30; put that back, or name another/;
  await refuseIn(begun, changed, "out-experiments/failing");
  const other = experimentFile("other", { axes: { n_head: [1] } });
  await refuseIn(/holds the experiment failing, not other; name another --out/, other, "out-experiments/failing");
  await refuseIn(/holds other files/, other, ".");
  await refuseIn(/trial n_head=3: n_embd 16 does not divide/, experimentFile("odd", { axes: { n_head: [3] } }), "odd");
  assert.deepEqual(contentsOf(join(FOLDER, "out-experiments")), before);
  assert.ok(!existsSync(join(FOLDER, "odd")));
});

test("a run's folder whose holder shows no sign of life is not waited for, and the others go on", async () => {
  const path = experimentFile("held", { axes: { n_head: [1, 2] }, base: { ...TINY, max_iters: 2, eval_interval: 2 } });
  const out = join(FOLDER, "held");
  const [first, second] = TRIALS.map((trial) => join(out, trial, "seed-1337"));
  mkdirSync(first!, { recursive: true });
  const stat = "/proc/self/stat"; // not everywhere
  const began = existsSync(stat) ? readFileSync(stat, "utf8").split(") ").at(-1)!.split(" ")[19] : null;
  const holder = { pid: process.pid, host: hostname(), began, what: "training" };
  writeFileSync(join(first!, "lock.json"), JSON.stringify(holder));
  utimesSync(join(first!, "lock.json"), new Date(0), new Date(0));
  writeFileSync(join(out, "experiment.json"), JSON.stringify({ name: "held" }));
  const lines: string[] = [];
  const outcome = await runExperiment(await ExperimentConfig.load(path), { out, log: (line) => lines.push(line) });
  assert.equal(outcome.finished, 1);
  assert.deepEqual(
    outcome.failed.map(({ label }) => label),
    ["n_head=1, seed 1337"],
  );
  assert.match(
    outcome.failed[0]!.error,
    /is in use: training in process \d+ on .*, last sign of life \d+ s ago; .*kill/,
  );
  assert.ok(existsSync(join(second!, "results.json")));
});

test("help, and the line that each mistake gets", async () => {
  const help = await succeed("tools/experiment.ts", ["--help"]);
  for (const command of ["run FILE", "list", "compare A B", "report EXPERIMENT"])
    assert.ok(help.includes(command), help);
  const runHelp = await succeed("tools/experiment.ts", ["run", "--help"]);
  assert.match(runHelp, /^usage: npx tsx tools\/experiment\.ts run FILE/);
  assert.match(runHelp, /--jobs=0 +runs at a time/);
  assert.doesNotMatch(runHelp, /--metric/);
  await refuse(/no command "compere"; did you mean compare\?/, "compere");
  await refuse(/no command "x"; there are: run, list, compare, report/, "x");
  await refuse(/give one file of an experiment.*got none/, "run");
  await refuse(/no folder \.\.\/x; /, "report", "../x");
  await refuse(/unknown key "job"/, "run", "x.ts", "--job=1");
});
