// Findings from the facts: a line for each item, with advice for what is missing. Left out: inspecting the machine (facts.ts).

import { whole } from "../../lib/common/format.ts";
import type { Facts } from "./facts.ts";

/** "broken" keeps training from running; "missing" is what this user needs and lacks, "optional" what only other uses need. */
export type Status = "ok" | "note" | "missing" | "broken" | "optional";

/** Needs of the user's settings beyond those of every run. */
export interface Needs {
  dataset: string; // "" for any
  wandb: boolean;
  mlflow: boolean;
  tensorboard: boolean;
  eager: boolean; // runs without compiling
}
const NOTHING: Needs = { dataset: "", wandb: false, mlflow: false, tensorboard: false, eager: false };

export interface Finding {
  name: string;
  status: Status;
  what: string;
  advice?: string; // its purpose and what to do
}

const NODE = 20; // the oldest that works
const GB = 2 ** 30;
const LITTLE = GB; // of memory or disk: less gets a remark

export function diagnose(facts: Facts, needs: Needs = NOTHING): Finding[] {
  return [...required(facts), ...machine(facts), ...datasets(facts, needs), ...forSomeUses(facts, needs)];
}

/** Can training run? Data can be prepared, so a missing dataset doesn't count. */
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
      ? finding("disk", "note", `${disk.path}: ${disk.error}`, "the free space is unknown")
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

/** pip's downloads for a module with its dependencies, as measured in November 2026 with Python 3.11. */
const PIP_SIZES = { wandb: "27 MB", tensorboard: "44 MB", mlflow: "more than 180 MB" };

function forSomeUses({ extras, optional, canvas, python, browser, git }: Facts, needs: Needs): Finding[] {
  const eager = Object.entries(optional).filter(([, version]) => version !== undefined);
  const absent = (needed: boolean) => (needed ? "missing" : "optional");
  const module = (name: "wandb" | "tensorboard" | "mlflow", use: string) => {
    const version = python?.modules[name];
    const command = `${python?.command ?? "python3"} -m pip install ${name}`;
    const advice = `${use}: ${command} (downloads ${PIP_SIZES[name]})`;
    return finding(name, version ? "ok" : absent(needs[name]), version ?? "none", advice);
  };
  const usesPython = needs.wandb || needs.mlflow || needs.tensorboard;
  const lacking = Object.keys(extras).filter((name) => extras[name] === undefined);
  return [
    finding(
      "extras",
      lacking.length === 0 ? "ok" : "optional",
      lacking.length === 0 ? `${Object.keys(extras).length} installed` : `not installed: ${lacking.join(", ")}`,
      `for pages, plots and reports (${lacking.join(", ")}): npm ci --include=peer`,
    ),
    "error" in canvas
      ? finding(
          "plots",
          lacking.length === 0 ? "missing" : "optional",
          `@napi-rs/canvas doesn't load: ${canvas.error}`,
          "draws plots as PNG: npm ci",
        )
      : finding("plots", "ok", `as SVG and PNG; ${canvas.families} font families besides the packaged one`),
    finding(
      "libtensorflow",
      eager.length > 0 ? "ok" : absent(needs.eager),
      eager.map(([name, version]) => `${name} ${version}`).join(", ") || "none",
      "makes --compile=false less slow, nothing else: npm install --ignore-scripts=false @tensorflow/tfjs-node " +
        "(downloads libtensorflow as well)",
    ),
    finding(
      "python",
      python ? "ok" : absent(usesPython),
      python ? `${python.version} (${python.command})` : "none",
      "for the three below and for some tests: install python3, or name one in NANOGPT_PYTHON",
    ),
    module("wandb", "for --wandb_log=true"),
    module("tensorboard", "shows the event files that --tensorboard=true writes"),
    module("mlflow", "a server for --mlflow_uri"),
    finding(
      "browser",
      browser ? "ok" : "optional",
      browser ?? "none",
      "the tests of the pages run in Chromium: install it (Debian's package: 81 MB), or name one in CHROME; the pages " +
        "themselves open in any browser",
    ),
    finding(
      "git",
      git ? "ok" : "optional",
      git ?? "none",
      "names the commit in results: install git (Debian's package: 7 MB)",
    ),
  ];
}

/** Downloads of the prepare scripts if the text is missing. OpenWebText's are 80 files of 0.3 GB. */
const DOWNLOADS: Record<string, string> = {
  shakespeare_char: "1.1 MB",
  shakespeare: "1.1 MB",
  pairs: "1.1 MB",
  openwebtext: "24 GB, and writes 17 GB",
};
const FIRST = "shakespeare_char"; // to begin with

/** One dataset is enough; the others are listed anyway. */
function datasets({ datasets }: Facts, needs: Needs): Finding[] {
  const isPath = (name: string) => /[./\\]/.test(name);
  const command = (name: string) => {
    if (isPath(name)) return `make it of a text: npx tsx data/shakespeare_char/prepare.ts --input=FILE --out=${name}`;
    const size = DOWNLOADS[name];
    return `npm run data -- ${name}${size === undefined ? "" : ` (downloads ${size})`}`;
  };
  const none = needs.dataset === "" && datasets.every(({ tokens }) => tokens === undefined);
  return datasets.map(({ name, tokens }) => {
    const shown = isPath(name) ? name : `data/${name}`;
    if (tokens) return finding(shown, "ok", `train ${whole(tokens.train)}, val ${whole(tokens.val)} tokens`);
    const needed = name === needs.dataset || (none && name === FIRST);
    const what = none && needed ? "not prepared, and no other dataset is" : "not prepared";
    return finding(shown, needed ? "missing" : "optional", what, command(name));
  });
}

/** `advice` is for findings that are not ok. */
function finding(name: string, status: Status, what: string, advice?: string): Finding {
  return status === "ok" || advice === undefined ? { name, status, what } : { name, status, what, advice };
}

const gb = (bytes: number) => `${(bytes / GB).toFixed(1)} GB`;
const counted = (n: number, noun: string) => `${n} ${noun}${n === 1 ? "" : "s"}`;

/** For people: a line for each finding, its advice on the next line; optional ones come last. */
export function describeFindings(findings: readonly Finding[]): string {
  const width = Math.max(...findings.map(({ name }) => name.length)) + 2;
  const lines = findings.flatMap(({ name, status, what, advice }) => {
    if (status === "optional") return [];
    const line = `${status.padEnd(9)}${name.padEnd(width)}${what}`;
    return advice === undefined ? [line] : [line, `${" ".repeat(9 + width)}-> ${advice}`];
  });
  const optional = findings.flatMap(({ name, status, advice }) =>
    status === "optional" ? [`${" ".repeat(9)}${name.padEnd(width)}${advice}`] : [],
  );
  if (optional.length > 0) lines.push("", "not here, and needed only for what is said:", ...optional, "");
  const verdict = canTrain(findings) ? "training can run here" : "training can't run here: see what is broken above";
  const lacking = findings.filter(({ status }) => status === "missing").map(({ name }) => name);
  return [...lines, lacking.length === 0 ? verdict : `${verdict}; missing: ${lacking.join(", ")}`].join("\n");
}
