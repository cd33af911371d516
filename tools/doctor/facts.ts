// Facts for tools/doctor.ts: Node, packages, engine, processor, memory, disk, programs, datasets. Read-only; diagnose.ts draws the
// conclusions.

import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, readdirSync, readFileSync, statfsSync, statSync } from "node:fs";
import { availableParallelism, cpus, freemem, totalmem } from "node:os";
import { delimiter, dirname, join, resolve } from "node:path";
import { ROOT } from "../../lib/common/scripts.ts";
import { datasetFile, datasetFolder, knownDatasets } from "../../lib/text/dataset.ts";
import { BYTES_PER_TOKEN } from "../../lib/text/token_file.ts";

const BROWSERS = ["chromium", "chromium-browser", "google-chrome"];
const PYTHON_MODULES = ["wandb", "tensorboard", "mlflow"];

/** Memory and disk in bytes; undefined if unknown or absent. */
export interface Facts {
  node: string; // version
  npm: string | undefined;
  platform: string; // "linux x64"
  packages: Record<string, string | undefined>; // version by name, of package.json's dependencies
  extras: Record<string, string | undefined>; // the same for pages and plots only
  optional: Record<string, string | undefined>;
  engine: { version: string; gflops: number } | { error: string };
  canvas: { families: number } | { error: string };
  cpu: { model: string; logical: number; physical: number | undefined; threads: number };
  gpus: string[] | undefined; // undefined without nvidia-smi
  memory: { total: number; available: number; limit: number | undefined };
  disk: { path: string; total: number; free: number } | { path: string; error: string };
  folder: { path: string; error: string | undefined }; // that of --out_dir
  python: { command: string; version: string; modules: Record<string, string | undefined> } | undefined;
  browser: string | undefined;
  git: string | undefined;
  datasets: { name: string; tokens: { train: number; val: number } | undefined }[];
}

/** @param dataset the one to train on; "" for any. @throws UserError if there is no such dataset */
export async function gatherFacts(outDir: string, dataset = ""): Promise<Facts> {
  const { dependencies, peerDependencies } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  const optional = ["@tensorflow/tfjs-node-gpu", "@tensorflow/tfjs-node"];
  return {
    node: process.versions.node,
    npm: printedBy(process.platform === "win32" ? "npm.cmd" : "npm", ["--version"]),
    platform: `${process.platform} ${process.arch}`,
    packages: versionsOf(Object.keys(dependencies)),
    extras: versionsOf(Object.keys(peerDependencies)),
    optional: Object.fromEntries(optional.map((name) => [name, hasBinding(name) ? installedVersion(name) : undefined])),
    engine: await engineFacts(),
    canvas: await canvasFacts(),
    cpu: await cpuFacts(),
    gpus: printedBy("nvidia-smi", ["--query-gpu=name,memory.total", "--format=csv,noheader"])?.split("\n"),
    memory: memoryFacts(),
    disk: diskFacts(outDir),
    folder: { path: outDir, error: whyNotWritable(outDir) },
    python: pythonFacts(),
    browser: [process.env.CHROME, ...BROWSERS].find((name) => name && isProgram(name)),
    git: printedBy("git", ["--version"])?.replace(/^git version /, ""),
    datasets: [...new Set([...knownDatasets(), ...(dataset === "" ? [] : [dataset])])].map((name) => ({
      name,
      tokens: tokensOf(datasetFolder(name)),
    })),
  };
}

/** A program's output; undefined if it is missing or fails. */
function printedBy(command: string, args: string[]): string | undefined {
  const shell = command.endsWith(".cmd"); // which Windows can't run otherwise
  const { status, stdout } = spawnSync(command, args, { encoding: "utf8", timeout: 20_000, shell });
  return status === 0 ? stdout.trim() : undefined;
}

/** Is it a path, or the name of a program in PATH? */
function isProgram(name: string): boolean {
  const folders = /[/\\]/.test(name) ? [""] : (process.env.PATH ?? "").split(delimiter);
  return folders.some((folder) => existsSync(join(folder, name)));
}

function versionsOf(names: readonly string[]): Record<string, string | undefined> {
  return Object.fromEntries(names.map((name) => [name, installedVersion(name)]));
}

/** Does a tfjs-node package have libtensorflow? npm doesn't fetch it by itself (.npmrc). */
function hasBinding(name: string): boolean {
  const folder = packageFolder(name);
  if (folder === undefined) return false;
  const lib = join(folder, "lib");
  const versions = existsSync(lib) ? readdirSync(lib) : [];
  return versions.some((version) => existsSync(join(lib, version, "tfjs_binding.node")));
}

function installedVersion(name: string): string | undefined {
  const folder = packageFolder(name);
  return folder && String(JSON.parse(readFileSync(join(folder, "package.json"), "utf8")).version);
}

/** The path of a package: in the node_modules of the repository or of a parent folder. */
function packageFolder(name: string): string | undefined {
  for (let folder = ROOT; ; folder = dirname(folder)) {
    const path = join(folder, "node_modules", name);
    if (existsSync(join(path, "package.json"))) return path;
    if (folder === dirname(folder)) return undefined;
  }
}

/** Load the engine and multiply two matrices. */
async function engineFacts(): Promise<Facts["engine"]> {
  try {
    const { createEngine } = await import("../../lib/engine/runtime/program.ts");
    const { measurePeak } = await import("../../lib/engine/runtime/peak.ts");
    const { runtimeVersion } = await import("../../lib/engine/runtime/session.ts");
    const gflops = (await measurePeak(await createEngine({ compile: true }))) / 1e9;
    return { version: runtimeVersion(), gflops };
  } catch (error) {
    return { error: firstLine(error) };
  }
}

async function canvasFacts(): Promise<Facts["canvas"]> {
  try {
    const { GlobalFonts } = await import("@napi-rs/canvas");
    return { families: GlobalFonts.families.length };
  } catch (error) {
    return { error: firstLine(error) };
  }
}

async function cpuFacts(): Promise<Facts["cpu"]> {
  const all = cpus();
  const logical = availableParallelism?.() ?? all.length;
  const model = all[0]?.model.trim() || process.arch;
  try {
    const { defaultThreads, physicalCores } = await import("../../lib/engine/runtime/device.ts");
    return { model, logical, physical: physicalCores(), threads: defaultThreads() };
  } catch {
    return { model, logical, physical: undefined, threads: 1 }; // the engine's own line reports that it doesn't load
  }
}

function memoryFacts(): Facts["memory"] {
  const total = totalmem();
  const limit = process.constrainedMemory?.() ?? 0; // of a container; 0 or a huge number for none
  const available = process.availableMemory?.() ?? freemem();
  return { total, available, limit: limit > 0 && limit < total ? limit : undefined };
}

/** The nearest existing folder: `path` or a parent. */
function existingFolder(path: string): string {
  let folder = resolve(path);
  while (!existsSync(folder)) folder = dirname(folder);
  return folder;
}

function diskFacts(path: string): Facts["disk"] {
  const folder = existingFolder(path);
  try {
    const { bsize, blocks, bavail } = statfsSync(folder);
    return { path: folder, total: bsize * blocks, free: bsize * bavail };
  } catch (error) {
    return { path: folder, error: firstLine(error) };
  }
}

/** Why `path`, or a file in it, can't be created; undefined if it can. */
function whyNotWritable(path: string): string | undefined {
  const folder = existingFolder(path);
  try {
    if (!statSync(folder).isDirectory()) return `${folder} is a file`;
    accessSync(folder, constants.W_OK | constants.X_OK);
    return undefined;
  } catch (error) {
    return firstLine(error);
  }
}

function pythonFacts(): Facts["python"] {
  const program = [
    "import json, sys, importlib.metadata as m",
    "found = {d.metadata['Name'].lower(): d.version for d in m.distributions() if d.metadata['Name']}",
    "print(json.dumps([sys.version.split()[0], {n: found[n] for n in sys.argv[1:] if n in found}]))",
  ].join("\n");
  for (const command of [process.env.NANOGPT_PYTHON, "python3", "python"]) {
    const printed = command && printedBy(command, ["-c", program, ...PYTHON_MODULES]);
    if (!printed) continue;
    const [version, found] = JSON.parse(printed) as [string, Record<string, string>];
    return { command, version, modules: Object.fromEntries(PYTHON_MODULES.map((name) => [name, found[name]])) };
  }
  return undefined;
}

function tokensOf(folder: string): { train: number; val: number } | undefined {
  const size = (split: "train" | "val") =>
    statSync(datasetFile(folder, `${split}.bin`), { throwIfNoEntry: false })?.size ?? 0;
  const [train, val] = [size("train") / BYTES_PER_TOKEN, size("val") / BYTES_PER_TOKEN];
  return train > 0 && val > 0 ? { train, val } : undefined;
}

const firstLine = (error: unknown) => String(error instanceof Error ? error.message : error).split("\n")[0]!;
