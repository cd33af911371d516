// What train.ts, sample.ts and bench.ts do stays on this machine and in the folders that they are told: no socket is opened, and
// no file is made elsewhere. strace sees every attempt, of child processes and native libraries too. ONNX Runtime 1.30 does
// both by default (telemetry), so the first test looks whether that would be seen.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { test } from "node:test";

import { flags, launchCommand, once, ROOT, TSX, temporaryFolder, tinyDataset } from "./scripts.ts";

const FOLDER = temporaryFolder();
const RUN = join(FOLDER, "out");
const HOMES = ["home", "cache", "tmp"].map((name) => join(FOLDER, name));
for (const home of HOMES) mkdirSync(home);
const [HOME, CACHE, TMP] = HOMES as [string, string, string];

const CALLS = [
  ...["socket", "connect", "bind", "sendto", "sendmsg", "openat", "mkdirat", "mknodat"],
  ...["renameat", "renameat2", "linkat", "symlinkat"],
  // which some processors don't have
  ...["?open", "?creat", "?mkdir", "?mknod", "?rename", "?link", "?symlink"],
].join(",");
const canTrace = spawnSync("strace", ["-f", "-qq", "-e", "trace=socket", "true"]).status === 0;
const TRACED = { skip: !canTrace && "no strace here, or it may not look at a process (apt-get install strace)" };

/** What a program tried, line by line. */
async function traceOf(name: string, args: readonly string[]): Promise<{ lines: string[]; stdout: string }> {
  const log = join(FOLDER, `${name}.strace`);
  const words = [
    "-f",
    "-qq",
    "-y",
    "--seccomp-bpf",
    "-e",
    `trace=${CALLS}`,
    "-e",
    "signal=none",
    "-o",
    log,
    process.execPath,
  ];
  // the TypeScript loader would keep what it has compiled in the temporary folder
  const env = { HOME, USERPROFILE: HOME, XDG_CACHE_HOME: CACHE, TMPDIR: TMP, TSX_DISABLE_CACHE: "1" };
  const { code, signal, stdout, stderr } = await launchCommand("strace", [...words, ...args], { cwd: FOLDER, env })
    .ended;
  assert.equal(code, 0, `${name} ended with ${code ?? signal}: ${stdout}${stderr}`);
  return { lines: readFileSync(log, "utf8").split("\n"), stdout };
}

/** Attempts to reach something, other than the loader's own pipe to a parent of its kind, which isn't there. */
function reached(lines: readonly string[]): string[] {
  return lines.filter(
    (line) =>
      /\b(?:socket|connect|bind|sendto|sendmsg)\(/.test(line) && !/\(AF_UNIX|"[^"]*\/tsx-\d+\/\d+\.pipe"/.test(line),
  );
}

/** Paths that a program tried to make, outside of its run's folder and of temporary folders of ours, which end with it. */
function made(lines: readonly string[]): string[] {
  const paths = lines.flatMap((line) => {
    const call = /\b(open|openat|creat|mk\w+|rename\w*|link\w*|symlink\w*)\((.*)/.exec(line);
    if (!call || (call[1]!.startsWith("open") && !/\bO_(?:CREAT|TMPFILE|WRONLY|RDWR|TRUNC|APPEND)/.test(call[2]!)))
      return [];
    // every path of the call, from the folder that it is relative to
    return [...call[2]!.matchAll(/(?:<([^>]*)>, )?"((?:[^"\\]|\\.)*)"/g)].map(([, from = FOLDER, path]) =>
      resolve(from, path!),
    );
  });
  const allowed = (path: string) =>
    path === RUN ||
    path.startsWith(`${RUN}/`) ||
    path.startsWith(join(TMP, "nanogpt-")) ||
    path.startsWith("/dev/") ||
    path.startsWith("/proc/");
  return paths.filter((path) => !allowed(path));
}

/** Neither, and nothing is left in the user's folders. */
function assertStaysHere(lines: readonly string[]): void {
  assert.ok(lines.length > 3, "strace saw nothing");
  assert.deepEqual(reached(lines), []);
  assert.deepEqual(made(lines), []);
  for (const home of HOMES) assert.deepEqual(readdirSync(home, { recursive: true }), [], home);
}

const SHAPE = {
  n_layer: 1,
  n_head: 2,
  n_embd: 16,
  block_size: 16,
  batch_size: 4,
  gradient_accumulation_steps: 1,
  threads: 1,
};
const script = (name: string, settings: Record<string, string | number | boolean>) =>
  traceOf(name, [...TSX, join(ROOT, name), ...flags(settings)]);

/** Trains into RUN; gives what it did. */
const trained = once(() => {
  const dataset = tinyDataset(FOLDER);
  const settings = {
    ...SHAPE,
    dataset,
    out_dir: RUN,
    max_iters: 3,
    eval_interval: 2,
    eval_iters: 1,
    sample_interval: 1,
    tensorboard: true,
  };
  return script("train.ts", settings);
});

test("train.ts", TRACED, async () => {
  const { lines } = await trained();
  assert.ok(readdirSync(RUN).includes("ckpt.json"));
  assertStaysHere(lines);
});

test("sample.ts, of what it left", TRACED, async () => {
  await trained();
  const { lines, stdout } = await script("sample.ts", { out_dir: RUN, num_samples: 2, max_new_tokens: 20, save: true });
  assert.ok(stdout.length > 20);
  assertStaysHere(lines);
});

test("bench.ts", TRACED, async () => {
  const benchmark = {
    benchmark: "training_throughput",
    steps: 3,
    warmup: 1,
    rounds: 1,
    results: join(RUN, "benchmarks"),
  };
  const { lines } = await script("bench.ts", { ...SHAPE, ...benchmark });
  assert.equal(readdirSync(join(RUN, "benchmarks")).length, 1);
  assertStaysHere(lines);
});

test("ONNX Runtime as it comes would be seen", TRACED, async () => {
  const runtime = createRequire(join(ROOT, "lib", "engine", "runtime", "session.ts")).resolve("onnxruntime-node");
  const body = `require(${JSON.stringify(runtime)}).InferenceSession.create(Uint8Array.of(0)).catch(() => setTimeout(() => {}, 2000))`; // loads the library
  const { lines } = await traceOf("untamed", ["-e", body]);
  assert.throws(() => assertStaysHere(lines), assert.AssertionError);
  assert.ok(made(lines).length > 0);
});
