// tools/doctor.ts: what follows from made-up facts, and the command on this machine, where the tests show that training runs.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

import { canTrain, describeFindings, diagnose, type Finding } from "../../tools/doctor/diagnose.ts";
import type { Facts } from "../../tools/doctor/facts.ts";
import { run, succeed, temporaryFolder } from "../scripts.ts";

const FOLDER = temporaryFolder();
const GB = 2 ** 30;

/** A machine that has everything. */
const COMPLETE: Facts = {
  node: "24.1.0",
  npm: "11.0.0",
  platform: "linux x64",
  packages: { "onnxruntime-node": "1.30.0", zod: "4.0.0" },
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
const LACKING: [name: string, Partial<Facts>, advice: RegExp][] = [
  ["npm", { npm: undefined }, /comes with Node/],
  ["libtensorflow", { optional: { "@tensorflow/tfjs-node": undefined } }, /npm install @tensorflow\/tfjs-node/],
  ["plots", { canvas: { error: "no binding" } }, /PNG/],
  ["python", { python: undefined }, /NANOGPT_PYTHON/],
  ["wandb", { python: none }, /--wandb_log=true: python3 -m pip install wandb/],
  ["tensorboard", { python: none }, /pip install tensorboard/],
  ["mlflow", { python: undefined }, /pip install mlflow/],
  ["browser", { browser: undefined }, /CHROME/],
  ["git", { git: undefined }, /commit/],
  ["data/words", { datasets: [{ name: "words", tokens: undefined }] }, /npm run prepare -- words/],
];
for (const [name, changes, advice] of LACKING) {
  test(`missing, and training runs all the same: ${name}`, () => {
    const found = findingOf(name, changes);
    assert.equal(found.status, "missing");
    assert.match(found.advice!, advice);
    assert.ok(!found.advice!.includes("\n"));
    assert.ok(canTrain(diagnose({ ...COMPLETE, ...changes })));
  });
}

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
  const report = JSON.parse(await succeed("tools/doctor.ts", ["--json", `--out_dir=${join(FOLDER, "a", "b")}`]));
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

test("the command: what is broken is told, and the exit code is 1", async () => {
  writeFileSync(join(FOLDER, "file"), "");
  const { code, stdout } = await run("tools/doctor.ts", [`--out_dir=${join(FOLDER, "file", "run")}`]);
  assert.equal(code, 1);
  assert.match(stdout, /^broken +out_dir .*file is a file$/m);
  assert.match(stdout, /\ntraining can't run here: see what is broken above\n$/);
});
