// lib/monitor/wandb.ts: what it hands to Python's wandb, with a wandb of ours in its place that writes down what it is asked
// to do and fails on demand; then the real one, offline, whose file is read back.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { afterEach } from "node:test";
import { pathToFileURL } from "node:url";

import type { Run } from "../../../lib/monitor/callback.ts";
import { checkWandb, wandb } from "../../../lib/monitor/wandb.ts";
import { pythonWith, runPython } from "../../python.ts";
import { eventually, launchCommand, ROOT, TSX, temporaryFolder } from "../../scripts.ts";
import { aRun, end, evaluate, failureOf, refusalOf, step } from "./support.ts";

const FOLDER = temporaryFolder();
const PYTHON = process.env.NANOGPT_PYTHON ?? "python3";
const hasPython = spawnSync(PYTHON, ["--version"]).status === 0;
const SKIP = { skip: !hasPython && `no ${PYTHON} here` };
const TEXT = "To be,\n  or <b>not</b> & naïve 東京 🙂\n";

// Each call is a line of the file FAKE_LOG.
const FAKE = `
import json, os, signal, sys, time
fails = os.environ.get("FAKE_FAILS", "")
if fails == "import": raise ImportError("none")
if fails == "broken": raise RuntimeError("a broken\\nwandb")

def note(what, value):
    with open(os.environ["FAKE_LOG"], "a") as file: file.write(json.dumps([what, value]) + "\\n")

class Settings:
    def __init__(self, **given): self.__dict__.update(given)
class Setup: settings = Settings(mode=os.environ.get("WANDB_MODE", "online"))
def setup(): return Setup
def login():
    if fails == "login": raise ValueError("No API key configured.\\nUse wandb login.")
class Html:
    def __init__(self, data, inject=True): self.data = data
class Run:
    logged = 0
    def define_metric(self, name, step_metric=None): note("define_metric", [name, step_metric])
    def log(self, data):
        note("log", {key: value.data if isinstance(value, Html) else value for key, value in data.items()})
        self.logged += 1
        if fails == "log" and self.logged == 3: raise RuntimeError("the disk is full")
    def finish(self, exit_code):
        print("wandb: finishing", file=sys.stderr, flush=True)
        if fails == "finish": time.sleep(60)
        note("finish", exit_code)
def init(settings, **given):
    print("wandb: View run at https://example.org/x\\nwandb: nothing of note", file=sys.stderr, flush=True)
    note("init", dict(given, sigint=signal.getsignal(signal.SIGINT) == signal.SIG_IGN, console=settings.console))
    if fails == "slow": time.sleep(2)
    return Run()
`;
mkdirSync(join(FOLDER, "fake", "wandb"), { recursive: true });
writeFileSync(join(FOLDER, "fake", "wandb", "__init__.py"), FAKE);

const before = { ...process.env };
afterEach(() => {
  for (const name of Object.keys(process.env)) if (!Object.hasOwn(before, name)) delete process.env[name];
  Object.assign(process.env, before);
});

/** From now on wandb is the one above. @returns a folder for a run, whose calls are written to calls.jsonl there */
function fake(fails = ""): string {
  const outDir = mkdtempSync(join(FOLDER, "run-"));
  Object.assign(process.env, {
    PYTHONPATH: join(FOLDER, "fake"),
    PYTHONDONTWRITEBYTECODE: "1",
    FAKE_LOG: join(outDir, "calls.jsonl"),
    FAKE_FAILS: fails,
    WANDB_MODE: "online",
  });
  return outDir;
}

type Call = [string, Record<string, unknown>];
function calls(outDir: string): Call[] {
  const path = join(outDir, "calls.jsonl");
  if (!existsSync(path)) return [];
  const text = readFileSync(path, "utf8").replaceAll(/-?\b(NaN|Infinity)\b/g, '"$&"');
  return text
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line));
}
const logged = (outDir: string) => calls(outDir).flatMap(([what, value]) => (what === "log" ? [value] : []));

test("without Python one line says what is missing", async () => {
  process.env.NANOGPT_PYTHON = join(FOLDER, "no-such-python");
  assert.match(
    await refusalOf(checkWandb()),
    /^wandb_log needs Python's wandb, and there is no .*no-such-python to run; install/,
  );
  delete process.env.NANOGPT_PYTHON;
  process.env.PATH = FOLDER;
  assert.match(await refusalOf(checkWandb()), /there is no python3 and no python to run/);
});

test("a refusal leaves nothing that keeps the program from ending", async () => {
  const module = JSON.stringify(pathToFileURL(join(ROOT, "lib", "monitor", "wandb.ts")).href);
  const path = join(FOLDER, "refused.mts");
  writeFileSync(path, `import { checkWandb } from ${module};\nawait checkWandb().catch(() => console.log("refused"));`);
  const env = { NANOGPT_PYTHON: join(FOLDER, "no-such-python") };
  const { code, stdout } = await launchCommand(process.execPath, [...TSX, path], { env, timeout: 30_000 }).ended;
  assert.deepEqual([code, stdout], [0, "refused\n"]);
});

test("without a wandb that works one line says what to do", SKIP, async () => {
  fake("import");
  const none = `wandb_log needs Python's wandb, and ${PYTHON} has none; pip install wandb, or leave wandb_log false`;
  assert.equal(await refusalOf(checkWandb()), none);
  fake("broken");
  assert.match(await refusalOf(checkWandb()), /^wandb can't be used with .*: wandb$/); // the last line of Python's
  fake("login");
  assert.match(
    await refusalOf(checkWandb()),
    /^wandb can't log in: No API key configured\. Use wandb login; run `wandb login`, set WANDB_MODE=offline/,
  );
  process.env.WANDB_MODE = "offline";
  await checkWandb();
});

test("settings, every step, texts and the end get there, with numbers that JSON has no word for", SKIP, async () => {
  const outDir = fake();
  const said: string[] = [];
  const callback = wandb({ project: "owt", runName: "gpt2" });
  await callback.onTrainStart!(aRun(outDir, { log: (line) => said.push(line) }));
  for (let iter = 0; iter < 100; iter++) await step(callback, iter);
  await step(callback, 1000, { loss: Number.NaN, lr: 0.001 });
  await step(callback, 1001, { loss: Number.NEGATIVE_INFINITY, lr: 0.001 });
  await evaluate(callback, 1002, { sample: TEXT });
  await step(callback, 900); // rolled back
  const { id } = callback.state!() as { id: string };
  await end(callback, 901);
  const [[first, init], ...rest] = calls(outDir) as [Call, ...Call[]];
  assert.equal(first, "init");
  assert.deepEqual(init, {
    project: "owt",
    name: "gpt2",
    id,
    dir: outDir,
    config: { dataset: "letters", learning_rate: 1e-3, facts: { device: "cpu", parameters: 12 } },
    resume: "allow",
    allow_val_change: true,
    sigint: true,
    console: "off",
  });
  assert.deepEqual(rest.slice(0, 2), [
    ["define_metric", ["iter", null]],
    ["define_metric", ["*", "iter"]],
  ]);
  assert.deepEqual(rest.at(-1), ["finish", 0]);
  const html = `<pre>${TEXT.replace("&", "&amp;").replace("<b>", "&lt;b&gt;").replace("</b>", "&lt;/b&gt;")}</pre>`;
  assert.deepEqual(logged(outDir), [
    ...Array.from({ length: 100 }, (_, iter) => ({ iter, loss: 1 / (iter + 1), lr: 0.001 })),
    { iter: 1000, loss: "NaN", lr: 0.001 },
    { iter: 1001, loss: "-Infinity", lr: 0.001 },
    { iter: 1002, "val/loss": 2.5, sample: html },
    { iter: 900, loss: 1 / 901, lr: 0.001 },
  ]);
  assert.deepEqual(said, ["wandb: View run at https://example.org/x"]);
});

test("a resumed run has its id again, a roll back changes nothing, and wandb hears how it ended", SKIP, async () => {
  const outDir = fake();
  const run = aRun(outDir, { log: () => {} });
  const first = wandb({ project: "p", runName: "n" });
  await first.onTrainStart!(run);
  const state = JSON.parse(JSON.stringify(first.state!()));
  await end(first, 0, "interrupted");
  const second = wandb({ project: "p", runName: "n" });
  second.restore!(state);
  await second.onTrainStart!(run);
  second.restore!({ id: "other" });
  assert.deepEqual(second.state!(), state);
  await end(second, 0, "failed");
  const told = calls(outDir).flatMap(([what, value]) =>
    what === "init" ? [value.id] : what === "finish" ? [value] : [],
  );
  assert.deepEqual(told, [state.id, 255, state.id, 1]);
});

test("what waits is written once a second", SKIP, async (t) => {
  let now = performance.now();
  t.mock.method(performance, "now", () => now);
  const outDir = fake();
  const callback = wandb({ project: "p", runName: "n" });
  await callback.onTrainStart!(aRun(outDir, { log: () => {} }));
  await step(callback, 0);
  await eventually(() => calls(outDir).length >= 3, "the start");
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.equal(logged(outDir).length, 0, "written at once");
  now += 1001; // a second, whatever is lost in rounding
  await step(callback, 1);
  await eventually(() => logged(outDir).length === 2, "two steps");
  await end(callback, 2);
});

test("a child that dies is named by the next function", SKIP, async (t) => {
  let now = performance.now();
  t.mock.method(performance, "now", () => now);
  const outDir = fake("log");
  const callback = wandb({ project: "p", runName: "n" });
  await callback.onTrainStart!(aRun(outDir, { log: () => {} }));
  now += 1001; // a second, whatever is lost in rounding
  for (let iter = 0; iter < 4; iter++) await step(callback, iter); // the first writes
  now += 1001; // a second, whatever is lost in rounding
  await step(callback, 4);
  const failure = await failureOf(callback, 5);
  assert.equal(failure, "Python's wandb ended with exit code 1: RuntimeError: the disk is full");
  assert.equal(callback.onError, "continue");
});

test("a child that does not read stops no step and takes no more than its share of memory", SKIP, async () => {
  const outDir = fake("slow");
  const said: string[] = [];
  const callback = wandb({ project: "p", runName: "n" });
  await callback.onTrainStart!(aRun(outDir, { log: (line) => said.push(line) }));
  const metrics = Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`update_ratio/weight.${i}`, i / 7]));
  const count = 1100; // of about 40 kB
  for (let iter = 0; iter < count; iter++) {
    assert.equal(step(callback, iter, metrics), undefined, "a step waits for nothing");
  }
  await end(callback, count);
  const iters = logged(outDir).map(({ iter }) => iter as number);
  const missing = Number(/it read too slowly; (\d+) steps are missing/.exec(said.at(-1)!)?.[1]);
  assert.ok(missing > 0 && missing < 0.8 * count, said.at(-1));
  assert.equal(iters.length, count - missing);
  assert.deepEqual(
    iters.slice(-200),
    Array.from({ length: 200 }, (_, i) => count - 200 + i),
    "the newest are kept",
  );
});

test("a child that does not finish is ended", SKIP, async () => {
  const outDir = fake("finish");
  const said: string[] = [];
  const callback = wandb({ project: "p", runName: "n", patience: 1500 });
  await callback.onTrainStart!(aRun(outDir, { log: (line) => said.push(line) }));
  await end(callback, 0);
  assert.match(said.at(-1)!, /^wandb: not done after 1\.5 s, so it was stopped; `wandb sync` sends what is missing$/);
});

/** A trainer with steps of 10 ms that goes on until SIGINT. */
function trainer(outDir: string, { ownGroup = false } = {}) {
  const module = JSON.stringify(pathToFileURL(join(ROOT, "lib", "monitor", "wandb.ts")).href);
  const script = `
    import { wandb } from ${module};
    const callback = wandb({ project: "p", runName: "n" });
    const run = { outDir: ${JSON.stringify(outDir)}, config: {}, facts: {}, log() {} };
    let interrupted = false;
    process.on("SIGINT", () => { interrupted = true; });
    await callback.onTrainStart(run);
    for (let iter = 0; !interrupted; iter++) {
      callback.onStep({ iter, metrics: { loss: 1 }, gradScale: 1, histograms: new Map() });
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    await callback.onTrainEnd({ iter: 0, reason: "interrupted" });`;
  const path = join(outDir, "trainer.mts");
  writeFileSync(path, script);
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => name === "NANOGPT_PYTHON"));
  const [command, ...before] = ownGroup ? ["setsid", process.execPath] : [process.execPath];
  return launchCommand(command!, [...before, ...TSX, path], { env: env as Record<string, string> });
}

test("a trainer that is killed leaves a child that finishes by itself", SKIP, async () => {
  const outDir = fake();
  const { child, ended } = trainer(outDir);
  await eventually(() => logged(outDir).length > 20, "steps");
  child.kill("SIGKILL");
  await ended;
  await eventually(() => calls(outDir).at(-1)![0] === "finish", "its end");
  assert.equal(calls(outDir).at(-1)![1], 255);
});

const setsid = spawnSync("setsid", ["--version"]).status === 0;
test("Ctrl-C on a terminal, which goes to the whole process group, lets it finish", {
  skip: (!hasPython || !setsid) && "no Python or no setsid here",
}, async () => {
  const outDir = fake();
  const { child, ended } = trainer(outDir, { ownGroup: true });
  await eventually(() => logged(outDir).length > 20, "steps");
  process.kill(-child.pid!, "SIGINT");
  const { code, stderr } = await ended;
  assert.equal(code, 0, stderr);
  assert.deepEqual(calls(outDir).at(-1), ["finish", 255]);
});

// ---- the real one ------------------------------------------------------------------------------------------------

// A .wandb file is a log of LevelDB's: blocks of 32 KiB, in them pieces of records with a header of 7 bytes.
const READER = `
import json, sys
from wandb.proto import wandb_internal_pb2 as pb
data = open(sys.argv[1], "rb").read()
place, parts, records = 7, b"", []
while place + 7 <= len(data):
    left = 32768 - place % 32768
    if left < 7:
        place += left
        continue
    size, kind = int.from_bytes(data[place + 4:place + 6], "little"), data[place + 6]
    parts += data[place + 7:place + 7 + size]
    place += 7 + size
    if kind in (1, 4):
        record = pb.Record()
        record.ParseFromString(parts)
        records.append(record)
        parts = b""
def items(list): return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in list}
out = dict(history=[], config={}, exits=[], metrics=[], runs=[])
for record in records:
    kind = record.WhichOneof("record_type")
    if kind == "history": out["history"].append(items(record.history.item))
    elif kind == "run":
        out["runs"].append([record.run.project, record.run.display_name, record.run.run_id])
        out["config"].update(items(record.run.config.update))
    elif kind == "config": out["config"].update(items(record.config.update))
    elif kind == "exit": out["exits"].append(record.exit.exit_code)
    elif kind == "metric": out["metrics"].append([record.metric.name or record.metric.glob_name, record.metric.step_metric])
print(json.dumps(out).replace("NaN", '"NaN"'))
`;

const found = pythonWith(["wandb"]);
test("Python's wandb, offline, keeps all of it in OUT_DIR/wandb", {
  skip: "missing" in found && found.missing,
}, async () => {
  if ("missing" in found) return;
  const outDir = mkdtempSync(join(FOLDER, "real-"));
  Object.assign(process.env, { NANOGPT_PYTHON: found.python, WANDB_MODE: "offline" });
  delete process.env.WANDB_DIR;
  await checkWandb();
  const said: string[] = [];
  const run: Run = aRun(outDir, { log: (line) => said.push(line) });
  const callback = wandb({ project: "owt", runName: "gpt2" });
  await callback.onTrainStart!(run);
  for (let iter = 0; iter < 500; iter++)
    await step(callback, iter, iter === 7 ? { loss: Number.NaN, lr: 0.001 } : undefined);
  await evaluate(callback, 500, { sample: TEXT });
  await step(callback, 400); // rolled back
  await end(callback, 401);
  const { id } = callback.state!() as { id: string };
  assert.deepEqual(readdirSync(outDir), ["wandb"]);
  const [folder, ...others] = readdirSync(join(outDir, "wandb")).filter((name) => name.startsWith("offline-run-"));
  assert.deepEqual(others, []);
  assert.ok(
    said.some((line) => /^wandb: .*offline/.test(line)),
    said.join("\n"),
  );
  const file = join(outDir, "wandb", folder!, `run-${id}.wandb`);
  const read = (await runPython(found.python, READER, [file])) as {
    history: Record<string, unknown>[];
    config: Record<string, unknown>;
    runs: unknown[];
    exits: number[];
    metrics: unknown[];
  };
  const scalars = read.history.map(({ iter, loss, lr, "val/loss": val }) => ({ iter, loss, lr, val }));
  const stepped = (iter: number, loss: number | string) => ({ iter, loss, lr: 0.001, val: undefined });
  assert.deepEqual(scalars, [
    ...Array.from({ length: 500 }, (_, iter) => stepped(iter, iter === 7 ? "NaN" : 1 / (iter + 1))),
    { iter: 500, loss: undefined, lr: undefined, val: 2.5 },
    stepped(400, 1 / 401),
  ]);
  const path = read.history[500]!["sample/path"] as string;
  assert.match(readFileSync(join(outDir, "wandb", folder!, "files", path), "utf8"), /&lt;b&gt;not.*東京 🙂/);
  assert.deepEqual(read.runs[0], ["owt", "gpt2", id]);
  const { config } = read;
  assert.deepEqual([config.dataset, config.learning_rate, config.facts], ["letters", 1e-3, run.facts]);
  assert.deepEqual(read.exits, [0]);
  assert.deepEqual(read.metrics.at(-1), ["*", "iter"]);
});
