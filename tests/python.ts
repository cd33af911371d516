// A Python for the tests that hand our files to other programs: NANOGPT_PYTHON, else python3 where it has the packages,
// else a virtual environment of our own under node_modules/.cache, made once. Without any of these a test is skipped and
// says why. Leaves out large packages: PyTorch is never installed, only used where it is.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { launchCommand, ROOT } from "./scripts.ts";

const SMALL = ["numpy", "safetensors", "tokenizers", "onnx", "onnxruntime", "tensorboard", "wandb"]; // wheels of some MB each
// MLflow's server alone, without the hundreds of MB that its other parts ask for
const MLFLOW = ["mlflow", "flask", "flask_cors", "sqlalchemy", "alembic", "gunicorn"];
const MLFLOW_VERSION = "3.17.2";
const PATIENCE = 180_000; // ms for an installation

/** A Python that can import all `packages`, or why there is none. */
export function pythonWith(packages: readonly string[]): { python: string } | { missing: string } {
  const given = process.env.NANOGPT_PYTHON;
  const names = packages.join(", ");
  if (given)
    return imports(given, packages) ? { python: given } : { missing: `${given} (NANOGPT_PYTHON) lacks ${names}` };
  if (imports("python3", packages)) return { python: "python3" };
  if (!packages.every((name) => [...SMALL, ...MLFLOW].includes(name))) {
    return { missing: `python3 lacks ${names}; set NANOGPT_PYTHON to one that has them` };
  }
  return ownPython(packages);
}

/** Run a program text with arguments; gives what it printed, as JSON. */
export async function runPython(python: string, program: string, args: readonly string[]): Promise<unknown> {
  const env = { HF_HUB_OFFLINE: "1", PYTHONUTF8: "1", OMP_NUM_THREADS: "2" };
  const { code, stdout, stderr } = await launchCommand(python, ["-c", program, ...args], { env }).ended;
  if (code !== 0) throw new Error(`Python ended with ${code}:\n${stdout}${stderr}`);
  return JSON.parse(stdout);
}

function imports(python: string, packages: readonly string[]): boolean {
  return spawnSync(python, ["-c", packages.map((name) => `import ${name}`).join("\n")]).status === 0;
}

function ownPython(packages: readonly string[]): { python: string } | { missing: string } {
  const folder = join(ROOT, "node_modules", ".cache", "python");
  const python = join(folder, "bin", "python");
  if (imports(python, packages)) return { python };
  const failed = join(folder, `no-${packages.join("-")}`); // tried once: the next run needn't wait again
  if (existsSync(failed))
    return { missing: `pip could not install ${packages.join(", ")}; remove ${folder} to try again` };
  const pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries=1", "--only-binary=:all:"];
  const steps: [string, string[]][] = [
    ["python3", ["-m", "venv", folder]],
    [python, [...pip, ...packages.map((name) => (name === "mlflow" ? `mlflow-skinny==${MLFLOW_VERSION}` : name))]],
  ];
  if (packages.includes("mlflow")) steps.push([python, [...pip, "--no-deps", `mlflow==${MLFLOW_VERSION}`]]);
  const deadline = Date.now() + PATIENCE;
  for (const [command, args] of steps) {
    const { status, stderr, error } = spawnSync(command, args, { timeout: deadline - Date.now(), encoding: "utf8" });
    if (status === 0) continue;
    mkdirSync(folder, { recursive: true });
    writeFileSync(failed, stderr ?? "");
    return { missing: `no ${packages.join(", ")}: ${error?.message ?? stderr.trim().split("\n").at(-1)}` };
  }
  return imports(python, packages) ? { python } : { missing: `${packages.join(", ")} don't import once installed` };
}
