// tools/doctor.ts: what follows from made-up facts, and the command on this machine, where the tests show that training runs.

import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import { knownDatasets } from "../../lib/text/dataset.ts";
import { canTrain, describeFindings, diagnose, type Finding, type Needs } from "../../tools/doctor/diagnose.ts";
import type { Facts } from "../../tools/doctor/facts.ts";
import { assertSucceeded, oneProcess, run, temporaryFolder } from "../scripts.ts";

const FOLDER = temporaryFolder();
const GB = 2 ** 30;
const runHere = oneProcess();

/** A machine that has everything. */
const COMPLETE: Facts = {
  node: "24.1.0",
  npm: "11.0.0",
  platform: "linux x64",
  packages: { "onnxruntime-node": "1.30.0", zod: "4.0.0" },
  extras: { echarts: "6.1.0" },
  optional: { "@tensorflow/tfjs-node-gpu": undefined, "@tensorflow/tfjs-node": "4.22.0" },
  engine: { version: "1.30.0", gflops: 123.4 },
  canvas: { families: 3 },
  cpu: { model: "A Processor", logical: 8, physical: 4, threads: 4 },
  gpus: undefined,
  memory: { total: 16 * GB, available: 8 * GB, limit: undefined },
  disk: { path: "/home", total: 100 * GB, free: 50 * GB },
  folder: { path: "out", error: undefined },
  python: { command: "python3", version: "3.12.0", modules: { wandb: "0.1", tensorboard: "2.1", mlflow: "3.1" } },
  browser: "chromium",
  git: "2.40",
  datasets: [{ name: "words", tokens: { train: 90_000, val: 10_000 } }],
};

function findingOf(name: string, changes: Partial<Facts>): Finding {
  const found = diagnose({ ...COMPLETE, ...changes }).find((finding) => finding.name === name);
  assert.ok(found, `no line for ${name}`);
  return found;
}

test("a machine that has everything: all is well and nothing is advised", () => {
  const findings = diagnose(COMPLETE);
  for (const { name, status, advice } of findings) {
    assert.equal(status, "ok", name);
    assert.equal(advice, undefined, name);
  }
  assert.ok(canTrain(findings));
  const text = describeFindings(findings);
  assert.match(text, /^ok +engine +onnxruntime 1\.30\.0, 123 GFLOP\/s in a matrix product$/m);
  assert.match(text, /^ok +processor +A Processor; 4 physical cores, 8 logical; 4 threads by default$/m);
  assert.match(text, /^ok +data\/words +train 90,000, val 10,000 tokens$/m);
  assert.ok(text.endsWith("\ntraining can run here"));
});

const BROKEN: [name: string, Partial<Facts>, what: RegExp, advice: RegExp][] = [
  ["node", { node: "18.20.1" }, /^18\.20\.1$/, /Node 20 or later/],
  ["packages", { packages: { zod: undefined, yaml: "2" } }, /^not installed: zod$/, /npm install/],
  ["engine", { engine: { error: "no binding" } }, /doesn't run on linux x64: no binding/, /not musl/],
  ["out_dir", { folder: { path: "out", error: "EACCES" } }, /^out can't be written: EACCES$/, /--out_dir/],
];
for (const [name, changes, what, advice] of BROKEN) {
  test(`broken: ${name}`, () => {
    const found = findingOf(name, changes);
    assert.equal(found.status, "broken");
    assert.match(found.what, what);
    assert.match(found.advice!, advice);
    const findings = diagnose({ ...COMPLETE, ...changes });
    assert.ok(!canTrain(findings));
    assert.match(describeFindings(findings), /\ntraining can't run here: see what is broken above$/);
  });
}

const none = { command: "python3", version: "3.12.0", modules: {} };
const words = { name: "words", tokens: { train: 90_000, val: 10_000 } };
const lines = { name: "lines", tokens: undefined };
const NEEDS: Needs = { dataset: "", wandb: false, mlflow: false, tensorboard: false, eager: false };
const LACKING: [name: string, Partial<Facts>, advice: RegExp, needs?: Partial<Needs>][] = [
  ["npm", { npm: undefined }, /comes with Node/, {}],
  ["extras", { extras: { echarts: undefined } }, /pages, plots and reports \(echarts\): npm ci --include=peer/],
  ["plots", { canvas: { error: "no binding" } }, /PNG/, {}],
  [
    "libtensorflow",
    { optional: { "@tensorflow/tfjs-node": undefined } },
    /--ignore-scripts=false @tensorflow\/tfjs-node \(downloads libtensorflow/,
    { eager: true },
  ],
  ["python", { python: undefined }, /NANOGPT_PYTHON/, { mlflow: true }],
  ["wandb", { python: none }, /--wandb_log=true: python3 -m pip install wandb \(downloads \d+ MB\)/, { wandb: true }],
  ["tensorboard", { python: none }, /pip install tensorboard \(downloads \d+ MB\)/, { tensorboard: true }],
  ["mlflow", { python: undefined }, /pip install mlflow/, { mlflow: true }],
  ["data/lines", { datasets: [words, lines] }, /npm run data -- lines/, { dataset: "lines" }],
  ["browser", { browser: undefined }, /81 MB.*CHROME/],
  ["git", { git: undefined }, /commit.*7 MB/],
];
for (const [name, changes, advice, needs] of LACKING) {
  test(`${name}: missing for who needs it, optional for all others, and training runs`, () => {
    const facts = { ...COMPLETE, ...changes };
    const find = (some: Partial<Needs>) => diagnose(facts, { ...NEEDS, ...some }).find((found) => found.name === name)!;
    const found = find(needs ?? {});
    assert.equal(found.status, needs ? "missing" : "optional");
    if (needs && Object.keys(needs).length > 0) assert.equal(find({}).status, "optional");
    assert.match(found.advice!, advice);
    assert.ok(!found.advice!.includes("\n"));
    assert.ok(canTrain(diagnose(facts)));
  });
}

test("one dataset is enough; where there is none, the one to begin with is missing, with the size of its download", () => {
  const unprepared = (...names: string[]) => names.map((name) => ({ name, tokens: undefined }));
  const datasets = unprepared("openwebtext", "pairs", "shakespeare_char");
  const statuses = (some: Facts["datasets"]) =>
    diagnose({ ...COMPLETE, datasets: some }).flatMap(({ name, status }) => (name.startsWith("data/") ? [status] : []));
  assert.deepEqual(statuses(datasets), ["optional", "optional", "missing"]);
  assert.deepEqual(statuses([...datasets, words]), ["optional", "optional", "optional", "ok"]);
  const advice = findingOf("data/shakespeare_char", { datasets }).advice;
  assert.equal(advice, "npm run data -- shakespeare_char (downloads 1.1 MB)");
  assert.match(findingOf("data/openwebtext", { datasets }).advice!, /downloads 24 GB, and writes 17 GB/);
});

test("every dataset that can be prepared has the size of its download", () => {
  const datasets = knownDatasets().map((name) => ({ name, tokens: undefined }));
  for (const { name, advice } of diagnose({ ...COMPLETE, datasets })) {
    if (name.startsWith("data/")) assert.match(advice!, /\(downloads [\d.]+ [MG]B/, name);
  }
});

test("what is optional stands apart, in lines without the word missing; what is missing is named in the last line", () => {
  const bare = { ...COMPLETE, python: undefined, browser: undefined, git: undefined, datasets: [words, lines] };
  const text = describeFindings(diagnose(bare));
  assert.doesNotMatch(text, /missing/);
  assert.match(text, /\n\nnot here, and needed only for what is said:\n(.*\n){7}\ntraining can run here$/);
  const needed = describeFindings(diagnose(bare, { ...NEEDS, wandb: true }));
  assert.match(needed, /^missing +wandb +none\n +-> for --wandb_log=true/m);
  assert.ok(needed.endsWith("\ntraining can run here; missing: python, wandb"));
});

test("notes: a GPU that isn't used, little memory, a container's limit, little disk", () => {
  const gpu = findingOf("gpu", { gpus: ["NVIDIA X, 8192 MiB"] });
  assert.equal(gpu.status, "note");
  assert.match(`${gpu.what} ${gpu.advice}`, /NVIDIA X.*not used/);
  const limited = findingOf("memory", { memory: { total: 16 * GB, available: 8 * GB, limit: GB / 2 } });
  assert.equal(limited.status, "note");
  assert.equal(limited.what, "16.0 GB, 8.0 GB available, limited to 0.5 GB by the container");
  assert.equal(findingOf("memory", { memory: { total: 16 * GB, available: GB / 2, limit: undefined } }).status, "note");
  assert.equal(findingOf("disk", { disk: { path: "/", total: GB, free: GB / 10 } }).status, "note");
  assert.equal(findingOf("disk", { disk: { path: "/", error: "ENOSYS" } }).status, "note");
});

test("the command: what this machine has, exit code 0", async () => {
  const report = JSON.parse(
    assertSucceeded(await runHere("tools/doctor.ts", ["--json", `--out_dir=${join(FOLDER, "a", "b")}`]), "doctor.ts"),
  );
  assert.equal(report.can_train, true);
  const facts: Facts = report.facts;
  assert.equal(facts.node, process.versions.node);
  assert.ok("gflops" in facts.engine && facts.engine.gflops > 0.001, JSON.stringify(facts.engine));
  assert.match(facts.packages["onnxruntime-node"]!, /^\d+\.\d+\.\d+$/);
  assert.ok(facts.cpu.threads >= 1 && facts.cpu.threads <= facts.cpu.logical);
  assert.ok(facts.memory.available > 0 && facts.memory.available <= facts.memory.total);
  assert.ok("free" in facts.disk && facts.disk.free > 0 && facts.disk.free <= facts.disk.total);
  assert.equal(facts.disk.path, FOLDER); // the nearest that is there, and nothing was made
  assert.ok(facts.datasets.some(({ name }) => name === "shakespeare_char"));
  assert.ok(report.findings.every(({ status }: Finding) => status !== "broken"));
});

test("the command: what a run's config file and flags need", async () => {
  writeFileSync(join(FOLDER, "mine.yaml"), "dataset: ./mine\nwandb_log: true\nn_layer: 2\n");
  mkdirSync(join(FOLDER, "mine"));
  const env = { NANOGPT_PYTHON: join(FOLDER, "no-such-python"), PATH: FOLDER };
  const { code, stdout, stderr } = await run("tools/doctor.ts", ["mine.yaml", "--no-compile"], { cwd: FOLDER, env });
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^missing +\.\/mine +not prepared\n +-> make it of a text: npx tsx /m);
  assert.match(stdout, /\ntraining can run here; missing: .*\.\/mine, (libtensorflow, )?python, wandb\n$/);
});

test("the command: what is broken is told, and the exit code is 1", async () => {
  writeFileSync(join(FOLDER, "file"), "");
  const { code, stdout } = await runHere("tools/doctor.ts", [`--out_dir=${join(FOLDER, "file", "run")}`]);
  assert.equal(code, 1);
  assert.match(stdout, /^broken +out_dir .*file is a file$/m);
  assert.match(stdout, /\ntraining can't run here: see what is broken above(; missing: .*)?\n$/);
});
