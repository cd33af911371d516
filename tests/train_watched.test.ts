// train.ts with somebody watching: watching changes no bit of the run, what callbacks ask for is done, and what goes
// wrong with them, with the disk or with the loss is one line and leaves a checkpoint that loads.

import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { before, test } from "node:test";

import { readHistory } from "../lib/monitor/metrics_file.ts";
import { assertRefused, launch, ROOT, run } from "./scripts.ts";
import { type Changes, tinyRuns } from "./tiny_runs.ts";

const runs = tinyRuns({ decay_lr: false, max_iters: 20, eval_interval: 5 });
const { folder: FOLDER, outDir, args: tiny, train, runHere, stateOf } = runs;

function callbackFile(name: string, text: string): string {
  const path = join(FOLDER, name);
  writeFileSync(path, text);
  return path;
}

const iterOf = async (name: string) => (await stateOf(name)).metadata.iter_num;
const scaleOf = async (name: string) =>
  ((await stateOf(name)).metadata.callbacks!.stability as { scale: number }).scale;

before(() => train("plain"));

test("everything that watches, all at once, changes no bit of the weights, and writes what it says", async () => {
  const mine = callbackFile(
    "mine.ts",
    `export default {
      name: "mine",
      onStep: async ({ metrics }: { metrics: Record<string, number> }) => { metrics.twice = 2 * metrics.loss!; },
    };`,
  );
  const all = { tensorboard: true, histogram_interval: 7, stats_interval: 4, sample_interval: 2, callbacks: mine };
  const react = { early_stop_patience: 100, lr_patience: 100, spike_threshold: 1000, rollback: true };
  const stdout = await train("watched", { ...all, ...react });
  assert.ok((await stateOf("watched")).weights.equals((await stateOf("plain")).weights));

  const history = readHistory(outDir("watched"));
  const steps = Array.from({ length: 20 }, (_, i) => i);
  assert.deepEqual(history.series.get("loss")!.iters, steps);
  assert.deepEqual(history.series.get("val/loss")!.iters, [0, 5, 10, 15, 20]);
  assert.deepEqual(history.series.get("update_ratio/wte.weight")!.iters, [0, 4, 8, 12, 16]);
  assert.ok(history.series.get("activation/h.1.mlp/dead"));
  for (const name of ["lr", "grad_norm", "step_ms", "tokens_per_s"]) {
    assert.ok(
      history.series.get(name)!.values.every((value) => value > 0),
      name,
    );
  }
  for (const name of ["data", "compute", "update", "evaluate", "checkpoint", "other"]) {
    assert.ok(history.last(`time/${name}`)! > 0, name);
  }
  for (const name of ["mean", "p50", "p95"]) assert.ok(history.last(`tokens_per_s/${name}`)! > 0, name);
  const [loss, twice] = ["loss", "twice"].map((name) => history.series.get(name)!.values);
  assert.ok(loss!.every((value, i) => Math.abs(twice![i]! - 2 * value) < 1e-5)); // both are kept to 7 digits
  assert.deepEqual(
    history.texts.map(({ iter }) => iter),
    [0, 10, 20],
  );
  assert.equal(history.texts[0]!.text.length, 200);
  assert.deepEqual(
    history.checkpoints.map(({ iter }) => iter),
    [5, 10, 15, 20],
  );
  assert.equal(history.end!.reason, "finished");

  // the lines on the terminal are those of nanoGPT, and the log has them all
  const [, printed] = /^iter 19: loss (\S+), time [\d.]+ms, mfu [\d.]+%, [\d,]+ tokens\/s$/m.exec(stdout)!;
  assert.equal(printed, history.series.get("loss")!.values[19]!.toFixed(4));
  const [log] = readdirSync(join(outDir("watched"), "logs"));
  assert.match(log!, /^train_watched_\d{8}_\d{6}\.log$/);
  assert.equal(readFileSync(join(outDir("watched"), "logs", log!), "utf8"), stdout);
  assert.match(readdirSync(join(outDir("watched"), "samples"))[0]!, /^sample_\d{8}_\d{6}\.txt$/);
});

test("of two runs in one out_dir the second is refused with the first one's process id", async () => {
  const first = launch("train.ts", tiny("shared", { max_iters: 1e6 }), { cwd: FOLDER });
  await first.until(/^iter 10:/m);
  const files = readdirSync(outDir("shared"));
  assertRefused(
    await runHere("train.ts", tiny("shared"), FOLDER),
    new RegExp(`shared is in use: training in process ${first.child.pid} on ${hostname()}, `),
  );
  for (const name of files) assert.ok(existsSync(join(outDir("shared"), name)) || name.startsWith("weights"), name);
  await train("shared", { eval_only: true }); // that writes nothing
  first.child.kill("SIGINT");
  assert.equal((await first.ended).code, 130);
  await train("shared", { max_iters: 5 });
});

test("a callback that throws ends the run with a line that names it; the checkpoint is of that step", async () => {
  const file = callbackFile(
    "throws.ts",
    `export default { onStep({ iter }: { iter: number }) { if (iter === 7) throw new Error("seven is enough"); } };`,
  );
  const ended = await run("train.ts", tiny("throws", { callbacks: file }), { cwd: FOLDER });
  assertRefused(ended, /callback throws\.ts failed in onStep at step 7: seven is enough/);
  assert.equal(await iterOf("throws"), 8);
  assert.deepEqual(
    { reason: "failed", iter: 8 },
    (({ reason, iter }) => ({ reason, iter }))(readHistory(outDir("throws")).end!),
  );
  await train("throws", { init_from: "resume" });
  assert.ok((await stateOf("throws")).weights.equals((await stateOf("plain")).weights));

  const patient = callbackFile(
    "patient.ts",
    `export default { onError: "continue", onStep() { throw new Error("always"); } };`,
  );
  const stdout = await train("patient", { callbacks: patient });
  assert.equal(
    stdout.match(/patient\.ts failed in onStep at step 0: always; training continues without it/g)!.length,
    1,
  );
  assert.ok((await stateOf("patient")).weights.equals((await stateOf("plain")).weights));
});

test("a disk that is full for the metrics is one line, and training goes on", {
  skip: !existsSync("/dev/full") && "no /dev/full here",
}, async () => {
  mkdirSync(outDir("full"));
  symlinkSync("/dev/full", join(outDir("full"), "metrics.jsonl"));
  const stdout = await train("full");
  assert.equal(
    stdout.match(/^callback metrics failed in onTrainStart .*ENOSPC.*training continues without it$/gm)?.length,
    1,
  );
  assert.ok((await stateOf("full")).weights.equals((await stateOf("plain")).weights));
});

test("an out_dir that is moved or replaced meanwhile is made again, with all that was written before", async () => {
  const spoil = (name: string, change: string) =>
    callbackFile(
      `${name}.ts`,
      `import { cpSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
      let out = "";
      export default {
        onTrainStart(run: { outDir: string }) { out = run.outDir; },
        onStep({ iter }: { iter: number }) { if (iter === 7) { ${change} } },
      };`,
    );
  const changes = {
    moved: 'renameSync(out, out + "-elsewhere");',
    replaced: 'renameSync(out, out + "-elsewhere"); cpSync(out + "-elsewhere", out, { recursive: true });',
  };
  const steps = Array.from({ length: 20 }, (_, i) => i);
  for (const [name, change] of Object.entries(changes)) {
    const stdout = await train(name, { callbacks: spoil(name, change), tensorboard: true });
    assert.ok((await stateOf(name)).weights.equals((await stateOf("plain")).weights));
    const history = readHistory(outDir(name));
    assert.deepEqual(history.series.get("loss")!.iters, steps);
    assert.equal(history.end!.reason, "finished");
    const [log] = readdirSync(join(outDir(name), "logs"));
    assert.equal(readFileSync(join(outDir(name), "logs", log!), "utf8"), stdout);
    assert.equal(readdirSync(join(outDir(name), "tensorboard")).length, 1);
    const line = /moved was moved, removed or replaced meanwhile: the run continues in a new one$/m;
    if (name === "moved") assert.match(stdout, line);
  }

  // where another run has taken its place, this one ends and leaves that alone
  const holder = JSON.stringify({ pid: 1, host: "elsewhere", began: null, what: "training" });
  const lock = `writeFileSync(out + "/lock.json", ${JSON.stringify(holder)});`;
  const later = `setImmediate(() => { renameSync(out, out + "-elsewhere"); mkdirSync(out); ${lock} });`; // between two steps
  const taken = spoil("taken", later);
  const ended = await run("train.ts", tiny("taken", { callbacks: taken }), { cwd: FOLDER });
  assertRefused(ended, /taken is in use: training in process 1 on elsewhere/);
  assert.ok(!existsSync(join(outDir("taken"), "metrics.jsonl")));
  assert.ok(!existsSync(join(outDir("taken"), "ckpt.json")));
});

test("early_stop_patience ends a run that gets no better, with its last checkpoint, and exit code 0", async () => {
  const still = { learning_rate: 0, max_iters: 1000, early_stop_patience: 2, always_save_checkpoint: false };
  const stdout = await train("early", still);
  assert.match(stdout, /^stopped before step \d+: no better validation loss in 2 evaluations/m);
  assert.equal(readHistory(outDir("early")).end!.reason, "stopped");
});

test("lr_patience lowers the learning rate, and a resumed run keeps it low", async () => {
  const settings = { learning_rate: 0, min_lr: 0, lr_patience: 1, eval_iters: 1, always_save_checkpoint: true };
  await train("plateau", settings);
  const scale = await scaleOf("plateau");
  assert.ok(scale < 1);
  await train("plateau", { ...settings, lr_patience: 0, learning_rate: 1, init_from: "resume", max_iters: 21 });
  const history = readHistory(outDir("plateau"));
  assert.equal(history.series.get("lr")!.iters.at(-1), 20);
  assert.equal(history.last("lr"), scale);
});

test("a loss that is NaN: one line, exit code 1, and the weights of the checkpoint are numbers", async () => {
  const spoil = callbackFile(
    "spoil.ts",
    `let run;
    let done = false;
    export default {
      onTrainStart(started) { run = started; },
      onStep({ iter }: { iter: number }) {
        if (iter !== 12 || done) return;
        done = true;
        run.model.transformer.blocks[0].mlp.cFc.weight.data.fill(Number.NaN);
      },
    };`,
  );
  const ended = await run("train.ts", tiny("nan", { callbacks: spoil }), { cwd: FOLDER });
  assertRefused(ended, /callback stability failed in onStep at step 13: the loss is NaN; lower --learning_rate/);
  assert.equal(await iterOf("nan"), 10);
  assert.equal(readHistory(outDir("nan")).end?.diverged, true);

  // with rollback it goes back to step 10, and on from there at half the rate
  const stdout = await train("back", { callbacks: spoil, rollback: true });
  assert.match(stdout, /^step 13: the loss is NaN: back to the checkpoint of step 10$/m);
  assert.deepEqual([await iterOf("back"), await scaleOf("back")], [20, 0.5]);
  const history = readHistory(outDir("back"));
  const rates = history.series.get("lr")!;
  assert.deepEqual(
    rates.iters,
    Array.from({ length: 20 }, (_, i) => i),
  );
  assert.deepEqual([rates.values[9], rates.values[10], rates.values[19]], [0.01, 0.005, 0.005]);
  assert.ok(history.series.get("loss")!.values.every(Number.isFinite));
});

test("a callback's mistakes are one line before anything is written", async () => {
  const refused = async (changes: Changes, message: RegExp) => {
    assertRefused(await runHere("train.ts", tiny("refused", changes), FOLDER), message);
    assert.ok(!existsSync(outDir("refused")));
  };
  await refused({ callbacks: "nowhere.ts" }, /no file nowhere\.ts, which --callbacks names/);
  await refused({ histogram_interval: 5 }, /histogram_interval 5 is for TensorBoard; set tensorboard to true/);
  await refused({ lr_factor: 1 }, /lr_factor must be a number above 0, below 1, got 1/);
});

test("the callback that docs/guides/monitoring.md shows stops the run and adds its number", async () => {
  const page = readFileSync(join(ROOT, "docs", "guides", "monitoring.md"), "utf8");
  const [, code] = /```ts\n\/\/ (?:stop_at_two\.ts)\n(.*?)```/s.exec(page)!;
  const file = callbackFile("stop_at_two.ts", code!.replace("< 2)", "< 10)"));
  const stdout = await train("documented", { callbacks: file, always_save_checkpoint: false });
  assert.match(stdout, /^stopped before step 0: good enough$/m);
  const goesOn = callbackFile("goes_on.ts", code!.replace("< 2)", "< 0)"));
  await train("documented", { callbacks: goesOn, max_iters: 2 });
  const { series } = readHistory(outDir("documented"));
  const [loss, perplexity] = ["loss", "perplexity"].map((name) => series.get(name)!.values[0]!);
  assert.ok(Math.abs(Math.log(perplexity!) - loss!) < 1e-5); // both are kept to 7 digits
});
