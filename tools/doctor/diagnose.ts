// What follows from the facts: a line for each thing, and what to do about what is missing. Leaves out every look at the
// machine, which is facts.ts' business.

import { whole } from "../../monitor/format.ts";
import type { Facts } from "./facts.ts";

/** "broken" keeps training from running; "missing" is something that only some uses need. */
export type Status = "ok" | "note" | "missing" | "broken";

export interface Finding {
  name: string;
  status: Status;
  what: string;
  advice?: string; // what it is for and what to do
}

const NODE = 20; // the oldest that works
const GB = 2 ** 30;
const LITTLE = GB; // of memory or disk: below it a note says so

export function diagnose(facts: Facts): Finding[] {
  return [...required(facts), ...machine(facts), ...optional(facts), ...datasets(facts)];
}

/** Can training run? Data can be prepared, so a dataset that isn't there doesn't count. */
export function canTrain(findings: readonly Finding[]): boolean {
  return findings.every(({ status }) => status !== "broken");
}

function required({ node, npm, platform, packages, engine }: Facts): Finding[] {
  const supported = Number(node.split(".")[0]) >= NODE;
  const lacking = Object.keys(packages).filter((name) => packages[name] === undefined);
  return [
    finding("node", supported ? "ok" : "broken", node, `Node ${NODE} or later is needed: https://nodejs.org`),
    finding("npm", npm ? "ok" : "missing", npm ?? "none", "installs the packages; it comes with Node"),
    finding(
      "packages",
      lacking.length === 0 ? "ok" : "broken",
      lacking.length === 0 ? `${Object.keys(packages).length} installed` : `not installed: ${lacking.join(", ")}`,
      "run: npm install",
    ),
    "error" in engine
      ? finding(
          "engine",
          "broken",
          `onnxruntime-node doesn't run on ${platform}: ${engine.error}`,
          "run npm install; it has binaries for Linux (x64, arm64; not musl), macOS (arm64) and Windows (x64, arm64)",
        )
      : finding(
          "engine",
          "ok",
          `onnxruntime ${engine.version}, ${engine.gflops.toFixed(0)} GFLOP/s in a matrix product`,
        ),
  ];
}

function machine({ cpu, gpus, memory, disk, folder }: Facts): Finding[] {
  const cores = cpu.physical === undefined ? "" : `${counted(cpu.physical, "physical core")}, `;
  const usable = Math.min(memory.limit ?? memory.total, memory.available);
  const limit = memory.limit === undefined ? "" : `, limited to ${gb(memory.limit)} by the container`;
  return [
    finding(
      "processor",
      "ok",
      `${cpu.model}; ${cores}${cpu.logical} logical; ${counted(cpu.threads, "thread")} by default`,
    ),
    gpus
      ? finding("gpu", "note", gpus.join("; "), "not used: the engine computes on the processor so far")
      : finding("gpu", "ok", "none that nvidia-smi tells of; the engine computes on the processor"),
    finding(
      "memory",
      usable < LITTLE ? "note" : "ok",
      `${gb(memory.total)}, ${gb(memory.available)} available${limit}`,
      "little: close other programs, or give a smaller batch_size or micro_batch_size",
    ),
    "error" in disk
      ? finding("disk", "note", `${disk.path}: ${disk.error}`, "nobody tells how much room there is")
      : finding(
          "disk",
          disk.free < LITTLE ? "note" : "ok",
          `${gb(disk.free)} of ${gb(disk.total)} free at ${disk.path}`,
          "little: a checkpoint takes 12 bytes a parameter, and twice that while it is replaced; see --out_dir",
        ),
    finding(
      "out_dir",
      folder.error === undefined ? "ok" : "broken",
      folder.error === undefined ? `${folder.path} can be written` : `${folder.path} can't be written: ${folder.error}`,
      "give another folder with --out_dir, or the right to write there",
    ),
  ];
}

function optional({ optional, canvas, python, browser, git }: Facts): Finding[] {
  const eager = Object.entries(optional).filter(([, version]) => version !== undefined);
  const module = (name: string, use: string) => {
    const version = python?.modules[name];
    const command = `${python?.command ?? "python3"} -m pip install ${name}`;
    return finding(name, version ? "ok" : "missing", version ?? "none", `${use}: ${command}`);
  };
  return [
    finding(
      "libtensorflow",
      eager.length > 0 ? "ok" : "missing",
      eager.map(([name, version]) => `${name} ${version}`).join(", ") || "none",
      "makes --compile=false faster, nothing else: npm install @tensorflow/tfjs-node (or tfjs-node-gpu)",
    ),
    "error" in canvas
      ? finding("plots", "missing", `@napi-rs/canvas doesn't load: ${canvas.error}`, "draws plots as PNG: npm install")
      : finding("plots", "ok", `as SVG and PNG; ${canvas.families} font families besides the packaged one`),
    finding(
      "python",
      python ? "ok" : "missing",
      python ? `${python.version} (${python.command})` : "none",
      "for the three below and for tests; install python3, or name one in NANOGPT_PYTHON",
    ),
    module("wandb", "for --wandb_log=true"),
    module("tensorboard", "shows the event files that training writes"),
    module("mlflow", "a server for --mlflow_uri"),
    finding(
      "browser",
      browser ? "ok" : "missing",
      browser ?? "none",
      "the tests of the pages run in Chromium: install it, or name it in CHROME (the pages open in any browser)",
    ),
    finding("git", git ? "ok" : "missing", git ?? "none", "names the commit in results; install git"),
  ];
}

function datasets({ datasets }: Facts): Finding[] {
  return datasets.map(({ name, tokens }) =>
    finding(
      `data/${name}`,
      tokens ? "ok" : "missing",
      tokens ? `train ${whole(tokens.train)}, val ${whole(tokens.val)} tokens` : "not prepared",
      `npm run prepare -- ${name}`,
    ),
  );
}

/** `advice` is for a thing that is not ok. */
function finding(name: string, status: Status, what: string, advice?: string): Finding {
  return status === "ok" || advice === undefined ? { name, status, what } : { name, status, what, advice };
}

const gb = (bytes: number) => `${(bytes / GB).toFixed(1)} GB`;
const counted = (n: number, noun: string) => `${n} ${noun}${n === 1 ? "" : "s"}`;

/** For a person: a line for each finding, its advice in a line below. */
export function describeFindings(findings: readonly Finding[]): string {
  const width = Math.max(...findings.map(({ name }) => name.length)) + 2;
  const lines = findings.flatMap(({ name, status, what, advice }) => [
    `${status.padEnd(9)}${name.padEnd(width)}${what}`,
    ...(advice === undefined ? [] : [`${" ".repeat(9 + width)}-> ${advice}`]),
  ]);
  const verdict = canTrain(findings) ? "training can run here" : "training can't run here: see what is broken above";
  return [...lines, verdict].join("\n");
}
