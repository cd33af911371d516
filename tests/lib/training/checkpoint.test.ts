// lib/training/checkpoint.ts: at every instant the folder holds a checkpoint that loads whole. tests/kill.test.ts does the
// same to a real run.

import assert from "node:assert/strict";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { hasCode } from "../../../lib/common/errors.ts";
import { loadCheckpoint, type Metadata, saveCheckpoint } from "../../../lib/training/checkpoint.ts";
import { contentsOf, launchCommand, ROOT, TSX, temporaryFolder } from "../../scripts.ts";
import { userError } from "../text/support.ts";

const FOLDER = temporaryFolder();
const newFolder = () => mkdtempSync(join(FOLDER, "out-"));

/** The state and tensors of a run after `step` steps. */
function stateAt(
  step: number,
): [Omit<Metadata, "format_version" | "weights">, { name: string; shape: number[]; data: Float32Array }[]] {
  const metadata = {
    model_args: { n_layer: 2, ffn: "gelu" },
    config: { out_dir: "out", learning_rate: 6e-4 },
    iter_num: step,
    best_val_loss: step === 0 ? null : 1 / step,
    rng: { seed: 2 ** 32 - 1, iteration: step },
    optimizer_steps: step,
    tokenizer: { kind: "char", itos: ["\n", "é", "😀"] },
  };
  const values = Float32Array.from({ length: 3000 }, (_, i) => step + i / 4096);
  return [
    metadata,
    [
      { name: "wte", shape: [3, 1000], data: values },
      { name: "t", shape: [], data: Float32Array.of(step) },
    ],
  ];
}

/** Load a checkpoint and see that it is the one of `stateAt(step)`; without a `step`, of the one that it says it is. */
async function assertWhole(directory: string, step?: number): Promise<number> {
  const { metadata, tensors } = await loadCheckpoint(directory);
  const { format_version, weights, ...saved } = metadata;
  const [expected, [wte]] = stateAt(step ?? metadata.iter_num);
  assert.deepEqual(saved, expected);
  assert.equal(format_version, 1);
  assert.equal(weights.bytes, tensors.size);
  const data = new Float32Array(3000);
  tensors.read("wte", [3, 1000], data);
  tensors.close();
  assert.deepEqual(data, wte!.data);
  return metadata.iter_num;
}

/** A script that has `stateAt` and `saveCheckpoint`. */
function scriptOf(body: string): string {
  const path = join(newFolder(), "script.mts");
  const module = JSON.stringify(pathToFileURL(join(ROOT, "lib", "training", "checkpoint.ts")).href);
  writeFileSync(path, `import { saveCheckpoint } from ${module};\n${stateAt}\n${body}\n`);
  return path;
}

const weightsIn = (directory: string) => readdirSync(directory).filter((name) => name.startsWith("weights-"));

test("what is saved is loaded again, from a folder that was not there", async () => {
  const directory = join(newFolder(), "deep", "out");
  await saveCheckpoint(directory, ...stateAt(0));
  await assertWhole(directory, 0);
});

test("ckpt.json is for people: indented, with a checksum that sha256sum gives, too", async () => {
  const directory = newFolder();
  await saveCheckpoint(directory, ...stateAt(3));
  const text = readFileSync(join(directory, "ckpt.json"), "utf8");
  assert.match(text, /^\{\n {2}"format_version": 1,\n {2}"model_args": \{\n/);
  const { weights } = JSON.parse(text);
  const checksums = contentsOf(directory);
  assert.equal(checksums[join(directory, weights.file)], weights.sha256);
});

test("a second checkpoint replaces the first, and one generation is left", async () => {
  const directory = newFolder();
  for (const step of [1, 2, 2, 3]) {
    await saveCheckpoint(directory, ...stateAt(step));
    await assertWhole(directory, step);
    assert.equal(readdirSync(directory).length, 2, String(readdirSync(directory)));
  }
});

test("a save removes what killed processes left, and nothing of the user's", async () => {
  const directory = newFolder();
  await saveCheckpoint(directory, ...stateAt(1));
  const strays = [
    "weights-0123456789ab.safetensors",
    "weights-0123456789ab.safetensors.4711.tmp",
    "weights-cdef01234567.safetensors.12.tmp",
    "ckpt.json.4711.tmp",
  ];
  const kept = ["weights-best.safetensors", "weights-0123456789ab.safetensors.bak", "ckpt.json.bak", "notes.tmp"];
  for (const name of [...strays, ...kept]) writeFileSync(join(directory, name), "x");
  await saveCheckpoint(directory, ...stateAt(2));
  const left = readdirSync(directory);
  for (const name of strays) assert.ok(!left.includes(name), `${name} is still there`);
  for (const name of kept) assert.ok(left.includes(name), `${name} was removed`);
  await assertWhole(directory, 2);
});

/** Save the state of step 2 into `directory` where the system refuses files of more than `kilobytes`. */
async function saveLimited(directory: string, kilobytes: number, configBytes = 0) {
  const script = scriptOf(`
    const [metadata, tensors] = stateAt(2);
    metadata.config.text = "x".repeat(${configBytes});
    try {
      await saveCheckpoint(process.argv[2], metadata, tensors);
    } catch (error) {
      console.log(error.code);
    }`);
  const command = `ulimit -f ${kilobytes} && exec "$@"`; // "File too large" comes where "no space left" would
  return launchCommand("bash", ["-c", command, "bash", process.execPath, ...TSX, script, directory]).ended;
}

const LIMITS = { skip: process.platform === "win32" && "Windows has no ulimit" };

test("a save that can't write its weights leaves the old checkpoint and nothing else", LIMITS, async () => {
  const directory = newFolder();
  await saveCheckpoint(directory, ...stateAt(1));
  const before = contentsOf(directory);
  writeFileSync(join(directory, "weights-0123456789ab.safetensors.4711.tmp"), "left by a killed process");
  assert.equal((await saveLimited(directory, 8)).stdout, "EFBIG\n");
  assert.deepEqual(contentsOf(directory), before); // room for the next save was made, too
  await assertWhole(directory, 1);
});

test("a save that can't write ckpt.json leaves the old checkpoint and nothing else", LIMITS, async () => {
  const directory = newFolder();
  await saveCheckpoint(directory, ...stateAt(1));
  const before = contentsOf(directory);
  assert.equal((await saveLimited(directory, 64, 100_000)).stdout, "EFBIG\n");
  assert.deepEqual(contentsOf(directory), before);
  await assertWhole(directory, 1);
});

test("a save that can't put ckpt.json in its place says so and leaves no temporary files", async () => {
  const directory = newFolder();
  mkdirSync(join(directory, "ckpt.json", "full"), { recursive: true });
  await assert.rejects(
    () => saveCheckpoint(directory, ...stateAt(1)),
    (error) => hasCode(error, "EISDIR"),
  );
  assert.deepEqual(
    readdirSync(directory).filter((name) => name.endsWith(".tmp")),
    [],
  );
});

/** Each spoils a folder that holds a checkpoint; then what loading it says. */
const DAMAGE: [string, (directory: string, weights: string) => void, RegExp][] = [
  ["an empty folder", (directory) => rmSync(join(directory, "ckpt.json")), /no checkpoint in .*no ckpt\.json/],
  ["no folder", (directory) => rmSync(directory, { recursive: true }), /no checkpoint in/],
  ["a folder in ckpt.json's place", (directory) => makeFolder(join(directory, "ckpt.json")), /ckpt\.json/],
  [
    "broken JSON",
    (directory) => truncateSync(join(directory, "ckpt.json"), 100),
    /ckpt\.json is not a checkpoint.*JSON/,
  ],
  ["a later format version", (directory) => edit(directory, { format_version: 2 }), /this version.*format_version/],
  ["a missing field", (directory) => edit(directory, { iter_num: undefined }), /iter_num/],
  ["a field of another type", (directory) => edit(directory, { optimizer_steps: "7" }), /optimizer_steps/],
  [
    "weights outside of the folder",
    (directory) => edit(directory, { weights: { file: "../w.safetensors", bytes: 1, sha256: "0".repeat(64) } }),
    /weights\.file: it must be the name of a \.safetensors file beside ckpt\.json/,
  ],
  [
    "a line break at the place of the fault",
    (directory) => {
      const path = join(directory, "ckpt.json");
      writeFileSync(path, readFileSync(path, "utf8").replace('"n_layer": 2', '"n_layer": x'));
    },
    /ckpt\.json is not a checkpoint of this version: it is not JSON: .*n_layer/,
  ],
  ["no weights", (_, weights) => rmSync(weights), /damaged: weights-\w+\.safetensors is missing or not what/],
  ["weights that were cut off", (_, weights) => truncateSync(weights, 12_000), /damaged: weights/],
  ["a flipped bit in the numbers", (_, weights) => flip(weights, -1), /damaged: weights/],
  ["a folder in the weights' place", (_, weights) => makeFolder(weights), /damaged: weights/],
];

function makeFolder(path: string): void {
  rmSync(path);
  mkdirSync(path);
}

function edit(directory: string, change: Record<string, unknown>): void {
  const path = join(directory, "ckpt.json");
  writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, "utf8")), ...change }));
}

function flip(path: string, at: number): void {
  const bytes = readFileSync(path);
  const index = at < 0 ? bytes.length + at : at;
  bytes[index] = bytes[index]! ^ 1;
  writeFileSync(path, bytes);
}

for (const [what, spoil, message] of DAMAGE) {
  test(`${what} is one line, and nothing is changed`, async () => {
    const directory = newFolder();
    await saveCheckpoint(directory, ...stateAt(5));
    spoil(directory, join(directory, weightsIn(directory)[0]!));
    const before = existsSync(directory) && contentsOf(directory);
    await assert.rejects(() => loadCheckpoint(directory), userError(message));
    assert.deepEqual(existsSync(directory) && contentsOf(directory), before);
  });
}

test("a checkpoint that was copied elsewhere loads there", async () => {
  const [from, to] = [newFolder(), newFolder()];
  await saveCheckpoint(from, ...stateAt(4));
  for (const name of readdirSync(from)) copyFileSync(join(from, name), join(to, name));
  rmSync(from, { recursive: true });
  await assertWhole(to, 4);
});

test("a reader that races with a writer always gets a whole checkpoint", async () => {
  const directory = newFolder();
  const writer = scriptOf(`
    for (let step = 1; ; step++) {
      await saveCheckpoint(process.argv[2], ...stateAt(step));
      if (step === 1) console.log("first");
    }`);
  const { child, ended, until } = launchCommand(process.execPath, [...TSX, writer, directory]);
  try {
    await until(/first/);
    const steps = new Set<number>();
    for (let load = 0; load < 200 || steps.size < 30; load++) steps.add(await assertWhole(directory));
  } finally {
    child.kill("SIGKILL");
    await ended;
  }
  await assertWhole(directory);
});
