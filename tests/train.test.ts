// train.ts as a person runs it: a resumed run is the same run, signals, the learning rate, the lines it prints, and the
// one line that each mistake gets. What a kill -9 does is in kill.test.ts.

import assert from "node:assert/strict";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";

import { prepareCharacters } from "../lib/text/characters.ts";
import { writeTokens } from "../lib/text/token_file.ts";
import { loadCheckpoint } from "../lib/training/checkpoint.ts";
import {
  assertRefused,
  assertSucceeded,
  contentsOf,
  type Ended,
  flags,
  launch,
  launchCommand,
  madeUpText,
  ROOT,
  run,
  TSX,
} from "./scripts.ts";
import { tinyRuns } from "./tiny_runs.ts";

/** With all that could make a resumed run another one: dropout, accumulation, a schedule. */
const runs = tinyRuns({
  warmup_iters: 5,
  lr_decay_iters: 20,
  min_lr: 1e-3,
  max_iters: 20,
  eval_interval: 10,
});
const { folder: FOLDER, settings: TINY, outDir, args: tiny, stateOf, assertSameState, tensorOf } = runs;
const { train, trainAlone, runHere } = runs;
const DATASET = TINY.dataset;

/** The printed loss of each step, and of each evaluation. */
function lossesOf(stdout: string): Map<string, string> {
  return new Map(
    [...stdout.matchAll(/^(iter|step) (\d+): (.*loss \d+\.\d+)/gm)].map(([, kind, n, loss]) => [`${kind} ${n}`, loss!]),
  );
}

/** The checkpoint's files: not the log and the metrics, which every run adds to. */
function checkpointIn(name: string): Record<string, string> {
  const files = Object.entries(contentsOf(outDir(name)));
  return Object.fromEntries(files.filter(([path]) => /(ckpt\.json|\.safetensors|\.tmp)$/.test(path)));
}

// ---- the same run ----

let whole1 = ""; // what the run in "whole1" printed, to which others are compared
before(async () => {
  whole1 = await train("whole1");
});

test("20 steps are 10 steps, resumed, and 10 more: every bit, with 1 and with 2 threads", async () => {
  await Promise.all(
    [1, 2].map(async (threads) => {
      const whole = threads === 1 ? whole1 : await train(`whole${threads}`, { threads });
      const first = await train(`parts${threads}`, { threads, max_iters: 10 });
      assert.equal((await stateOf(`parts${threads}`)).metadata.iter_num, 10);
      const second = await trainAlone(`parts${threads}`, { threads, init_from: "resume" });
      assert.match(second, /^Resuming training from .*parts/m);
      assert.doesNotMatch(second, /^iter 9:/m);
      assert.deepEqual(lossesOf(second + first), new Map([...lossesOf(second), ...lossesOf(first)]));
      for (const part of [first, second]) {
        for (const [step, loss] of lossesOf(part)) assert.equal(loss, lossesOf(whole).get(step), step);
      }
      assert.equal(lossesOf(first).size + lossesOf(second).size, lossesOf(whole).size + 1); // step 10 twice
      await assertSameState(`whole${threads}`, `parts${threads}`);
    }),
  );
  await assertSameState("whole1", "whole2");
  assert.deepEqual((await stateOf("whole1")).metadata.rng, { seed: 1337, iteration: 20 });
});

test("another seed, and no dropout, are other runs", async () => {
  await Promise.all([train("seed", { seed: 1338 }), train("dry", { dropout: 0 })]);
  const whole = (await stateOf("whole1")).weights;
  assert.ok(!(await stateOf("seed")).weights.equals(whole));
  assert.ok(!(await stateOf("dry")).weights.equals(whole));
});

test("init_from another run takes its weights, crops the block, and starts the optimizer anew", async () => {
  const still = { decay_lr: false, learning_rate: 0, max_iters: 1, eval_interval: 1 }; // one step that changes nothing
  const stdout = await train("finetuned", { ...still, init_from: outDir("whole1"), block_size: 8, n_layer: 3 });
  assert.match(stdout, /^Initializing with the weights of .*whole1$/m);
  assert.match(stdout, /^n_layer is 2, as in the checkpoint \(3 by --n_layer\)$/m);

  const { metadata } = await stateOf("finetuned");
  assert.equal(metadata.iter_num, 1);
  assert.equal(metadata.optimizer_steps, 1);
  assert.equal(metadata.model_args.block_size, 8);
  const before = await loadCheckpoint(outDir("whole1"));
  before.tensors.close();
  for (const [name, { shape }] of before.tensors.entries) {
    if (name.startsWith("optimizer.")) continue;
    const expected = await tensorOf("whole1", name);
    const rows = name === "transformer.wpe.weight" ? expected.subarray(0, 8 * shape[1]!) : expected;
    assert.deepEqual(await tensorOf("finetuned", name), rows, name);
  }
});

test("init_from another run may have longer contexts, where positions have no weights of their own", async () => {
  const steps = { max_iters: 1, eval_interval: 1 };
  await train("near", { ...steps, pos: "alibi" });
  const stdout = await train("far", { ...steps, init_from: outDir("near"), block_size: 24 });
  assert.doesNotMatch(stdout, /^block_size is/m);
  assert.equal((await stateOf("far")).metadata.model_args.block_size, 24);
  const learned = await train("learned", { ...steps, init_from: outDir("whole1"), block_size: 24 });
  assert.match(learned, /^block_size is 16, as in the checkpoint \(24 by --block_size\)$/m);
});

/** A model of another program in a folder that says its tokens are the dataset's. */
function foreign(name: string): string {
  const folder = join(FOLDER, name);
  cpSync(join(ROOT, "tests", "fixtures", "formats", name), folder, { recursive: true });
  cpSync(join(DATASET, "meta.json"), join(folder, "meta.json"));
  return folder;
}

test("init_from the folder of another program's model: its loss, finetuned on the dataset's tokens", async () => {
  const steps = { max_iters: 1, eval_interval: 1, block_size: 16, learning_rate: 1e-3 };
  for (const name of ["hf_gelu_new", "nanogpt"]) {
    const stdout = await train(`from_${name}`, { ...steps, init_from: foreign(name), n_head: 4 });
    assert.match(stdout, new RegExp(`^Initializing with the weights of .*${name}$`, "m"));
    assert.match(stdout, /^n_head is 2, as in the checkpoint \(4 by --n_head\)$/m);
    const { metadata } = await stateOf(`from_${name}`);
    const { vocab_size, dropout, ffn } = metadata.model_args;
    assert.deepEqual([vocab_size, dropout, ffn], [61, 0.2, name === "nanogpt" ? "gelu" : "gelu_tanh"]);
    assert.equal(metadata.tokenizer?.vocab_size, 21);
    // the run goes on from its own checkpoint
    const resumed = await train(`from_${name}`, { ...steps, init_from: "resume", max_iters: 2 });
    assert.match(resumed, /^iter 1: loss .*\nstep 2: /m);
  }
  const cropped = await train("cropped", { ...steps, init_from: foreign("hf_gelu_new"), block_size: 8 });
  assert.doesNotMatch(cropped, /^block_size is/m);
  assert.equal((await stateOf("cropped")).metadata.model_args.block_size, 8);
});

test("--vocab=extend trains another run's weights on other characters; the run then has these", async () => {
  const other = join(FOLDER, "other");
  mkdirSync(other);
  const source = { name: "other words", sha256: "0".repeat(64) };
  const text = madeUpText(2000).replaceAll("a", "é").replaceAll("z", "");
  const { itos } = prepareCharacters({ text, source, directory: other });
  const still = { dataset: other, learning_rate: 0, decay_lr: false, max_iters: 1, eval_interval: 1 };
  const stdout = await train("extended", { ...still, init_from: outDir("whole1"), vocab: "extend" });
  assert.match(
    stdout,
    /^vocab extend: \d+ of \d+ characters keep their rows, 1 start fresh \(é\); 1 of the model's are/m,
  );

  const { metadata } = await stateOf("extended");
  assert.deepEqual(metadata.tokenizer?.itos, itos);
  assert.equal(metadata.model_args.vocab_size, itos.length);
  assert.equal(metadata.optimizer_steps, 1);
  const table = (name: string) => tensorOf(name, "transformer.wte.weight");
  const [before, after] = await Promise.all([table("whole1"), table("extended")]);
  const old: string[] = JSON.parse(readFileSync(join(DATASET, "meta.json"), "utf8")).itos;
  for (const [id, character] of itos.entries()) {
    if (character === "é") continue;
    const row = old.indexOf(character);
    assert.deepEqual(after.slice(id * 32, (id + 1) * 32), before.slice(row * 32, (row + 1) * 32), character);
  }
  await train("extended", { ...still, init_from: "resume", vocab: "extend", max_iters: 2 }); // has them already
});

test("tokens of one's own, with their number alone: trained on, and samples are numbers", async () => {
  const own = join(FOLDER, "own");
  mkdirSync(own);
  for (const name of ["train.bin", "val.bin"]) {
    writeTokens(
      join(own, name),
      Uint16Array.from({ length: 500 }, (_, i) => (i * i) % 300),
    );
  }
  const steps = { dataset: own, max_iters: 1, eval_interval: 1, sample_interval: 1 };
  const stdout = await train("own", { ...steps, vocab_size: 300 });
  assert.match(stdout, /^no .*meta\.json: vocab_size is 300, of tokens without a text$/m);
  assert.match(stdout, /^sample after 1 steps:\n( [12]?\d?\d){200}$/m);
  const { metadata } = await stateOf("own");
  assert.deepEqual(metadata.tokenizer, { kind: "ids", vocab_size: 300 });
  assert.equal(metadata.model_args.vocab_size, 300);
  const other = { init_from: "resume", out_dir: outDir("own"), dataset: DATASET, max_iters: 2 };
  const resumed = await runHere("train.ts", flags(other), FOLDER);
  assertRefused(
    resumed,
    /the model knows 300 tokens without a text, the dataset has 21 characters; which of them are the same/,
  );
  assert.deepEqual((await stateOf("own")).metadata.tokenizer, { kind: "ids", vocab_size: 300 });
});

test("the checkpoint's shape counts when a run is resumed, and the flags that differ are named", async () => {
  cpSync(outDir("whole1"), outDir("reshaped"), { recursive: true });
  const stdout = await train("reshaped", { init_from: "resume", n_embd: 64, block_size: 8, max_iters: 21 });
  assert.match(stdout, /^n_embd is 32, as in the checkpoint \(64 by --n_embd\)$/m);
  assert.match(stdout, /^block_size is 16, as in the checkpoint \(8 by --block_size\)$/m);
  assert.deepEqual((await stateOf("reshaped")).metadata.model_args, (await stateOf("whole1")).metadata.model_args);
});

test("attention is computed as the flags say, in a run that goes on too", async () => {
  cpSync(outDir("whole1"), outDir("recompute"), { recursive: true });
  const stdout = await train("recompute", {
    init_from: "resume",
    attention: "recompute",
    attn_chunk: 5,
    max_iters: 21,
  });
  assert.doesNotMatch(stdout, /as in the checkpoint/);
  const ways = { attention: "recompute", attn_chunk: 5 };
  assert.deepEqual((await stateOf("recompute")).metadata.model_args, {
    ...(await stateOf("whole1")).metadata.model_args,
    ...ways,
  });

  const path = join(outDir("recompute"), "ckpt.json"); // as an earlier version wrote it
  const earlier = readFileSync(path, "utf8")
    .replaceAll('"recompute"', '"flash"')
    .replaceAll("attn_chunk", "attn_block_size");
  writeFileSync(path, earlier);
  const again = await train("recompute", { init_from: "resume", max_iters: 22 }); // as in the checkpoint
  assert.doesNotMatch(again, /not used|now called/);
  assert.equal((await stateOf("recompute")).metadata.model_args.attention, "recompute");
});

test("the learning rate: linear warmup, a cosine down to min_lr, then min_lr", async () => {
  // With gradients clipped to nothing, a step only shrinks the weights: by 1 - rate * weight_decay.
  const settings = { warmup_iters: 4, lr_decay_iters: 12, learning_rate: 0.1, min_lr: 0.01, weight_decay: 1 };
  const still = { ...settings, grad_clip: 1e-30, eval_interval: 1, eval_iters: 1, log_interval: 100 };
  const length = async () => Math.hypot(...(await tensorOf("rates", "transformer.wte.weight")));
  const cosine = (part: number) => 0.01 + 0.5 * (1 + Math.cos(Math.PI * part)) * 0.09;
  const rates = [0.02, 0.04, 0.06, 0.08, ...[0, 1, 2, 3, 4, 5, 6, 7, 8].map((i) => cosine(i / 8)), 0.01, 0.01];

  await train("rates", { ...still, decay_lr: false, learning_rate: 0, max_iters: 1 });
  let before = await length();
  let from = 0;
  for (const to of [1, 4, 7, 12, 15]) {
    await train("rates", { ...still, max_iters: to, init_from: from === 0 ? "scratch" : "resume" });
    const expected = rates.slice(from, to).reduce((product, rate) => product * (1 - rate), 1);
    const now = await length();
    const shrunk = now / before;
    assert.ok(Math.abs(shrunk - expected) < 1e-5, `steps ${from} to ${to} shrink by ${shrunk}, not ${expected}`);
    [before, from] = [now, to];
  }
});

test("a resumed run takes its own settings, and says which are others now; a finished one says so, and trains longer", async () => {
  const own = { max_iters: 25, eval_interval: 10, gradient_accumulation_steps: 1, n_head: 4 };
  const stdout = await train("own", own);
  assert.equal((await stateOf("own")).metadata.iter_num, 25); // the last step, though it is between two evaluations
  const [, again] = /^ {2}train it longer: npx tsx train\.ts (.*) --max_iters=50$/m.exec(stdout)!;
  const before = contentsOf(outDir("own"));
  const finished = assertSucceeded(await runHere("train.ts", again!.split(" "), FOLDER), "train.ts");
  assert.match(
    finished,
    /^the run in .*own has made all of its 25 steps; its checkpoint is of step 25\n.*--max_iters=50$/m,
  );
  assert.deepEqual(contentsOf(outDir("own")), before);

  const longer = assertSucceeded(
    await runHere("train.ts", [...again!.split(" "), "--max_iters=30"], FOLDER),
    "train.ts",
  );
  assert.match(longer, /^settings as in .*own.ckpt\.json, but max_iters=30 \(was 25\)$/m);
  assert.match(longer, /^tokens per iteration will be: 64$/m);
  await train("straight", { ...own, max_iters: 30 });
  await assertSameState("own", "straight");
});

test("cut short while only the best is kept: the last state stands beside it, and a resumed run goes on from there", async () => {
  const best = {
    ...LONG,
    always_save_checkpoint: false,
    eval_interval: 10,
    learning_rate: 3,
    grad_clip: 0,
    decay_lr: false,
  };
  const { child, ended, until } = launch("train.ts", tiny("beside", best), { cwd: FOLDER });
  await until(/^iter 45:/m);
  child.kill("SIGINT");
  const { stdout } = await ended;
  const [, kept, last] =
    /^.* holds the checkpoint of step (\d+) \(.*\), the best, and the run's last state, of step (\d+)$/m.exec(stdout)!;
  assert.equal((await stateOf("beside")).metadata.iter_num, Number(kept));
  assert.equal((await stateOf(join("beside", "last"))).metadata.iter_num, Number(last));
  const flags = ["--init_from=resume", `--out_dir=${outDir("beside")}`, "--max_iters=60"];
  const resumed = assertSucceeded(await runHere("train.ts", flags, FOLDER), "train.ts");
  assert.match(resumed, new RegExp(`^iter ${last}: `, "m"));
  assert.ok(!existsSync(join(outDir("beside"), "last")));
  await train("undisturbed", { ...best, max_iters: 60 });
  await assertSameState("beside", "undisturbed");
});

// ---- signals ----

const LONG = { max_iters: 400, eval_interval: 200, lr_decay_iters: 400 };

test("Ctrl-C ends the step, saves, and says how to go on; that command ends as if nothing had happened", async () => {
  const uninterrupted = train("uninterrupted", LONG);
  const name = "with 'a quote' & blank";
  const { child, ended, until } = launch("train.ts", ["--init_from", "scratch", ...tiny(name, LONG)], { cwd: FOLDER });
  await until(/^iter 12:/m);
  child.kill("SIGINT");
  setTimeout(() => child.kill("SIGINT"), 5); // as npx and tsx pass it on once more, while it saves
  const { code, stdout, stderr } = await ended;
  assert.equal(code, 130, stderr);
  const [, step, command] = /^stopped before step (\d+); continue with: npx tsx train\.ts (.*)\n$/m.exec(stdout) ?? [];
  assert.ok(command, stdout);
  assert.equal((await stateOf(name)).metadata.iter_num, Number(step));
  assert.ok(Number(step) > 12 && Number(step) < 400, step);
  assert.match(stdout, new RegExp(`^iter ${Number(step) - 1}:`, "m"));
  assert.doesNotMatch(stdout, new RegExp(`^iter ${step}:`, "m"));

  const shell = ["-c", `exec "$@" ${command}`, "sh", process.execPath, ...TSX, join(ROOT, "train.ts")];
  const resumed = await launchCommand("sh", shell, { cwd: FOLDER }).ended;
  assert.equal(resumed.code, 0, resumed.stderr);
  assert.match(resumed.stdout, new RegExp(`^iter ${step}:`, "m"));
  await uninterrupted;
  await assertSameState(name, "uninterrupted");
});

test("SIGTERM saves, too, in the middle of an evaluation", async () => {
  const { child, ended, until } = launch("train.ts", tiny("terminated", { eval_interval: 3, eval_iters: 2000 }), {
    cwd: FOLDER,
  });
  await until(/^iter 2:/m);
  child.kill("SIGTERM");
  const { code, stdout } = await ended;
  assert.equal(code, 143);
  assert.match(stdout, /^stopped before step 3; continue with: /m);
  assert.doesNotMatch(stdout, /^step 3:/m); // a part of an evaluation is none
  assert.equal((await stateOf("terminated")).metadata.iter_num, 3);
});

test("a signal before the first step is done leaves the folder's older checkpoint alone", async () => {
  cpSync(outDir("whole1"), outDir("older"), { recursive: true });
  const before = checkpointIn("older");
  const { child, ended, until } = launch("train.ts", tiny("older", { eval_iters: 1e6 }), { cwd: FOLDER });
  await until(/^device:/m);
  setTimeout(() => child.kill("SIGINT"), 400); // it evaluates by then
  const { code, stdout } = await ended;
  assert.equal(code, 130);
  assert.deepEqual(checkpointIn("older"), before);
  assert.doesNotMatch(stdout, /init_from=resume/); // there is nothing of this run to resume
});

test("a second Ctrl-C ends at once, though something still holds the first one's end", async () => {
  const waiting = join(FOLDER, "waiting.ts");
  writeFileSync(
    waiting,
    'const held = () => (console.log("held"), new Promise((go) => setTimeout(go, 1e9)));\n' +
      'export default { name: "waiting", onStep: held };\n',
  );
  const args = tiny("twice", { callbacks: waiting, eval_iters: 1 });
  const { child, ended, until } = launch("train.ts", args, { cwd: FOLDER });
  await until(/^held$/m); // not sooner: a step that is going on would just end
  child.kill("SIGINT");
  await until(/^SIGINT: stopping; once more ends at once$/m);
  await new Promise((resolve) => setTimeout(resolve, 600)); // one that comes sooner is the first again
  assert.equal(child.exitCode ?? child.signalCode, null);
  child.kill("SIGINT");
  assert.equal((await ended).code, 130);
  assert.deepEqual(checkpointIn("twice"), {});
  assert.ok(!existsSync(join(outDir("twice"), "lock.json")));
});

test("a signal while the run is being set up ends it with a line, and leaves nothing", async () => {
  const slow = join(FOLDER, "slow.mts"); // it is asked for before anything else is made
  writeFileSync(
    slow,
    'console.log("asked");\nawait new Promise((go) => setTimeout(go, 1e9));\nexport default () => ({ name: "slow" });\n',
  );
  const { child, ended, until } = launch("train.ts", tiny("early", { callbacks: slow }), { cwd: FOLDER });
  await until(/^asked$/m);
  child.kill("SIGTERM");
  const { code, stderr } = await ended;
  assert.deepEqual([code, stderr], [143, "SIGTERM: stopped\n"]);
  assert.ok(!existsSync(outDir("early")));
});

// ---- what it prints, and when it saves ----

test("the log's lines are nanoGPT's, with tokens/s behind", async () => {
  const stdout = await train("log");
  const lines = stdout.slice(stdout.indexOf("step 0")).trimEnd().split("\n");
  const iteration = (n: number) =>
    new RegExp(`^iter ${n}: loss \\d+\\.\\d{4}, time \\d+\\.\\d\\dms, mfu -?\\d+\\.\\d\\d%, [\\d,]+ tokens/s$`);
  const evaluation = (n: number) => new RegExp(`^step ${n}: train loss \\d+\\.\\d{4}, val loss \\d+\\.\\d{4}$`);
  const saving = /^saving checkpoint to .*log$/;
  const tens = (from: number) => Array.from({ length: 10 }, (_, i) => iteration(from + i));
  const expected = [
    evaluation(0),
    ...tens(0).toSpliced(5, 0, /^peak: \S+ GFLOP\/s in a matrix product on this device; mfu is measured against it$/),
    evaluation(10),
    saving,
    ...tens(10),
    evaluation(20),
    saving,
    /^.*log holds the checkpoint of step 20 \(train loss \d\.\d{4}, val loss \d\.\d{4}\)$/,
    /^ {2}sample from it: npx tsx sample\.ts --out_dir=.*log$/,
    /^ {2}plot its losses: npx tsx tools\/plot\.ts --out_dir=.*log$/,
    /^ {2}train it longer: npx tsx train\.ts --init_from=resume --out_dir=.*log --max_iters=40$/,
  ];
  assert.equal(lines.length, expected.length, stdout);
  for (const [i, pattern] of expected.entries()) assert.match(lines[i]!, pattern);
  assert.match(stdout, /^tokens per iteration will be: 128$/m);
  assert.match(stdout, /^device: cpu, compiled \(onnxruntime [\d.]+, 1 thread\)$/m);
});

test("log_interval leaves out lines; a run that gets no better than it began keeps its best checkpoint, and says so", async () => {
  const worse = { learning_rate: 3, decay_lr: false, grad_clip: 0, log_interval: 7, always_save_checkpoint: false };
  const stdout = await train("worse", { ...worse, eval_interval: 5 });
  assert.deepEqual(
    [...stdout.matchAll(/^iter (\d+)/gm)].map(([, n]) => n),
    ["0", "7", "14"],
  );
  const losses = [...stdout.matchAll(/^step (\d+): .*val loss (\S+)$/gm)].map(([, n, loss]) => [
    Number(n),
    Number(loss),
  ]);
  const [[, first], ...later] = losses as [[number, number], ...[number, number][]];
  const [step, lowest] = later.reduce((best, other) => (other[1] < best[1] ? other : best));
  assert.ok(lowest > first, stdout);
  assert.match(
    stdout,
    new RegExp(`^the validation loss was never below that of step 0 \\(${first.toFixed(4)} at step 0,`, "m"),
  );
  const { metadata } = await stateOf("worse");
  assert.equal(metadata.iter_num, step);
  assert.equal(metadata.losses!.val!.toFixed(4), lowest.toFixed(4));
  assert.equal(metadata.ended, step === 20 ? undefined : 20);
});

test("eval_only evaluates and stops, for a new model and at any step of a resumed one", async () => {
  const fresh = await train("evaluated", { eval_only: true });
  assert.deepEqual([...lossesOf(fresh).keys()], ["step 0"]);
  const before = contentsOf(outDir("whole1"));
  const resumed = await train("whole1", { eval_only: true, init_from: "resume", eval_interval: 7 });
  assert.deepEqual([...lossesOf(resumed).keys()], ["step 20"]);
  assert.deepEqual(contentsOf(outDir("whole1")), before);
});

// ---- mistakes ----

let cases = 0;

/** A new folder with whatever `make` puts there. */
function scene(make: (folder: string) => void = () => {}): string {
  const folder = join(FOLDER, `case${cases++}`);
  mkdirSync(folder);
  make(folder);
  return folder;
}

const config = (text: string) => (folder: string) => writeFileSync(join(folder, "config.ts"), text);
const dataset = (spoil: (data: string) => void) => (folder: string) => {
  cpSync(DATASET, join(folder, "data"), { recursive: true });
  spoil(join(folder, "data"));
};
/** A copy of a good run's folder, spoiled: what is there after a disk fault, or a careless edit. */
const damaged = (spoil: (out: string, weights: string) => void) => (folder: string) => {
  const out = join(folder, "out");
  cpSync(outDir("whole1"), out, { recursive: true });
  spoil(out, join(out, readdirSync(out).find((name) => name.startsWith("weights"))!));
};
const ckpt = (changeOf: (json: Record<string, object>) => Record<string, unknown>) =>
  damaged((out) => {
    const path = join(out, "ckpt.json");
    const json = JSON.parse(readFileSync(path, "utf8"));
    writeFileSync(path, JSON.stringify({ ...json, ...changeOf(json) }));
  });
const modelArgs = (change: Record<string, unknown>) =>
  ckpt(({ model_args }) => ({ model_args: { ...model_args, ...change } }));
const RESUME = ["--init_from=resume", "--max_iters=30"];

// of those that every script refuses (configurator.test.ts) one in a flag and one in a file
const MISTAKES: [string, string[], RegExp, ((folder: string) => void)?][] = [
  ["n_embd not divisible by n_head", ["--n_embd=30", "--n_head=4"], /n_embd 30 does not divide by n_head 4; try/],
  [
    "a block_size beyond the data",
    ["--block_size=5000"],
    /val\.bin has 2000 tokens, too few for --block_size=5000; use --block_size=1999/,
  ],
  [
    "an unknown key in a config",
    ["config.ts"],
    /unknown key "n_leyer" \(config\.ts\)/,
    config("export default { n_leyer: 2 };"),
  ],
  ["no such dataset", ["--dataset=nowhere"], /no dataset "nowhere"; there are: /],
  [
    "a dataset without train.bin",
    ["--dataset=./data"],
    /no data\/train\.bin; run/,
    dataset((data) => rmSync(join(data, "train.bin"))),
  ],
  [
    "a dataset without val.bin",
    ["--dataset=./data"],
    /no data\/val\.bin; run/,
    dataset((data) => rmSync(join(data, "val.bin"))),
  ],
  [
    "half a token",
    ["--dataset=./data"],
    /train\.bin has 777 bytes/,
    dataset((data) => truncateSync(join(data, "train.bin"), 777)),
  ],
  [
    "a damaged meta.json",
    ["--dataset=./data"],
    /data\/meta\.json: it is not JSON.*; run/,
    dataset((data) => truncateSync(join(data, "meta.json"), 50)),
  ],
  [
    "a token beyond the vocabulary",
    ["--dataset=./data"],
    /data\/train\.bin has the token 21 at index 12,345, and the vocabulary has 21 tokens, 0 to 20; run/,
    dataset((data) => {
      const bytes = readFileSync(join(data, "train.bin"));
      bytes.writeUInt16LE(21, 2 * 12_345);
      writeFileSync(join(data, "train.bin"), bytes);
    }),
  ],
  [
    "a vocabulary that meta.json has, in other words",
    ["--vocab_size=300"],
    /meta\.json says that there are 21 tokens; leave out vocab_size 300 \(--vocab_size\), which is for folders without/,
  ],
  [
    "a vocabulary to extend without weights that have one",
    ["--vocab=extend"],
    /vocab extend is for the tokens of other weights; name them with init_from/,
  ],
  ["an out_dir that is a file", ["--out_dir=config.ts"], /can't make or write the folder .*config\.ts/, config("")],
  ["an out_dir below a file", ["--out_dir=config.ts/out"], /can't make or write the folder .*config\.ts/, config("")],
  ["resuming without a checkpoint", RESUME, /no checkpoint in out \(no ckpt\.json there\); train one/],
  ["a run to start from that is not there", ["--init_from=elsewhere"], /no checkpoint in elsewhere/],
  [
    "truncated weights",
    RESUME,
    /checkpoint in out is damaged: weights/,
    damaged((_, weights) => truncateSync(weights, 5000)),
  ],
  [
    "a flipped byte",
    RESUME,
    /checkpoint in out is damaged: weights/,
    damaged((_, weights) => {
      const bytes = readFileSync(weights);
      bytes[9000]! ^= 0x10;
      writeFileSync(weights, bytes);
    }),
  ],
  [
    "broken JSON",
    RESUME,
    /out\/ckpt\.json is not a checkpoint of this version: /,
    damaged((out) => truncateSync(join(out, "ckpt.json"), 300)),
  ],
  [
    "weights of another shape",
    RESUME,
    /has transformer\.wte\.weight as F32 \[\d+,32\], not \[\d+,64\]/,
    modelArgs({ n_embd: 64 }),
  ],
  ["nonsense in model_args", RESUME, /in out: model_args\.n_head must be an integer/, modelArgs({ n_head: "two" })],
  [
    "layers beyond counting",
    RESUME,
    /in out: model_args\.n_layer must be an integer of at most 10000, got 1000000000/,
    modelArgs({ n_layer: 1e9 }),
  ],
  [
    "a callback's state",
    RESUME,
    /ckpt\.json: callbacks\.stability is not what/,
    ckpt(() => ({ callbacks: { stability: 1 } })),
  ],
  ["heads beyond counting", ["--n_head=99999999999"], /n_head must be an integer of at most \d+, got 99999999999/],
  ["hidden units beyond counting", ["--n_hidden=1099511627776"], /n_hidden must be an integer of at most/],
  ["a batch beyond counting", ["--batch_size=99999999999"], /batch_size must be an integer of at most/],
  ["a block beyond counting", ["--block_size=99999999999"], /block_size must be an integer of at most/],
  ["more threads than there are", ["--threads=5000"], /threads must be an integer of at most 1024/],
  [
    "a model that no machine holds",
    ["--n_layer=10000", "--n_embd=1048576"],
    /training this model takes [\d,]+ GB at least \(weights [\d,]+ GB, .*\), and this \w+ \w+( use)? [\d.,]+ GB/,
  ],
  [
    "a NUL in a path",
    ["nul.json"],
    /out_dir must be text without the character NUL, got "a\\u0000b" \(nul\.json\)/,
    (folder) => writeFileSync(join(folder, "nul.json"), '{"out_dir": "a\\u0000b"}'),
  ],
  [
    "a model that can't be",
    RESUME,
    /in out: model_args: n_embd \d+ does not divide by n_head 5/,
    modelArgs({ n_head: 5 }),
  ],
  ["weights of fewer layers", RESUME, /has no tensor transformer\.h\.2\./, modelArgs({ n_layer: 3 })],
  [
    "a checkpoint of other tokens",
    [...RESUME, "--dataset=./data"],
    /in out: 1 of the dataset's 22 characters are unknown to the model \(ß\); a resumed run keeps its own tokens; .*npx tsx/,
    (folder) => {
      damaged(() => {})(folder);
      dataset((data) => {
        const meta = JSON.parse(readFileSync(join(data, "meta.json"), "utf8"));
        const itos = [...meta.itos, "ß"];
        const stoi = Object.fromEntries(itos.map((character, id) => [character, id]));
        writeFileSync(join(data, "meta.json"), JSON.stringify({ kind: "char", vocab_size: itos.length, itos, stoi }));
      })(folder);
    },
  ],
];

test("each mistake is one line, and touches no file", async (t) => {
  for (const [what, given, message, make] of MISTAKES) {
    const folder = scene(make);
    const defaults = flags(TINY).filter((flag) => !given.some((other) => other.split("=")[0] === flag.split("=")[0]));
    const before = contentsOf(folder);
    const ended = await runHere("train.ts", [...defaults, ...given], folder);
    await t.test(what, () => {
      assertRefused(ended, message);
      assert.deepEqual(contentsOf(folder), before);
    });
  }
  assert.deepEqual(contentsOf(DATASET), UNTOUCHED);
});
const UNTOUCHED = contentsOf(DATASET);

test("a setting in the environment is checked like a flag", async () => {
  const folder = scene();
  assertRefused(
    await run("train.ts", flags({ dataset: DATASET }), { cwd: folder, env: { NANOGPT_N_LAYER: "0" } }),
    /n_layer must be an integer of at least 1, got 0 \(NANOGPT_N_LAYER\)/,
  );
  assert.deepEqual(readdirSync(folder), []);
});

const ROOT_USER = { skip: process.getuid?.() === 0 && "root can write everywhere" };

test("an out_dir that can't be written is one line before any step is trained", ROOT_USER, async () => {
  const folder = scene((folder) => mkdirSync(join(folder, "out")));
  chmodSync(join(folder, "out"), 0o555);
  const ended: Ended = await run("train.ts", flags(TINY), { cwd: folder });
  assertRefused(ended, /--out_dir/);
  assert.doesNotMatch(ended.stdout, /^(step|iter)/m);
});

test("a checkpoint that can't be written is one line, and the one before is whole", {
  skip: process.platform === "win32" && "Windows has no ulimit",
}, async () => {
  cpSync(outDir("whole1"), outDir("full"), { recursive: true });
  const before = checkpointIn("full");
  // "File too large" comes where "no space left on device" would
  const command = ["-c", 'ulimit -f 8 && exec "$@"', "bash", process.execPath, ...TSX, join(ROOT, "train.ts")];
  const resume = tiny("full", { init_from: "resume", max_iters: 40 });
  assertRefused(await launchCommand("bash", [...command, ...resume], { cwd: FOLDER }).ended, /checkpoint.*EFBIG/);
  assert.deepEqual(checkpointIn("full"), before);
  assert.ok(existsSync(join(outDir("full"), "ckpt.json")));
});
