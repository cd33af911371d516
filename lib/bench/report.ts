// A benchmark's results as a file: figures, machine, versions and settings. compare.ts compares two of them.

import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { availableParallelism, cpus, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { writeJson } from "../common/atomic.ts";
import { explain, UserError } from "../common/errors.ts";
import { needPackages } from "../common/extra_packages.ts";
import { stamp } from "../common/file_names.ts";
import { readJson } from "../common/read_file.ts";
import { ROOT } from "../common/scripts.ts";
import { z } from "../common/zod.ts";
import { runtimeVersion } from "../engine/runtime/session.ts";

const Report = z.object({
  name: z.string(), // of the benchmark
  date: z.string(), // ISO 8601, UTC
  versions: z.record(z.string(), z.nullable(z.string())),
  hardware: z.object({ cpu: z.string(), cores: z.number(), memory_gb: z.number(), platform: z.string() }),
  settings: z.record(z.string(), z.unknown()),
  facts: z.record(z.string(), z.unknown()),
  metrics: z.array(
    z.object({
      name: z.string(),
      value: z.number(),
      unit: z.string(),
      better: z.enum(["higher", "lower"]),
      samples: z.exactOptional(z.array(z.number())),
    }),
  ),
});
export type Report = z.infer<typeof Report>;

/** This machine: its processor, the cores available to this process, its memory in GB (2^30 bytes). */
export function machineOf(): Report["hardware"] {
  const cpu = cpus()[0]?.model.trim() || process.arch;
  const memory_gb = Math.round(totalmem() / 2 ** 30);
  return { cpu, cores: availableParallelism(), memory_gb, platform: `${process.platform} ${process.arch}` };
}

/** Versions of everything that affects figures. The commit ends in "-dirty" if files differ from it. */
export function versions(): Record<"package" | "commit" | "node" | "onnxruntime" | "tfjs", string | null> {
  const { version, dependencies } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  return {
    package: String(version),
    commit: commitOf(ROOT),
    node: process.versions.node,
    onnxruntime: runtimeVersion(),
    tfjs: String(dependencies["@tensorflow/tfjs"]),
  };
}

function commitOf(directory: string): string | null {
  const env = { ...process.env, GIT_OPTIONAL_LOCKS: "0" }; // else git may write to its index
  const git = (...args: string[]) =>
    execFileSync("git", args, { cwd: directory, env, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  try {
    const commit = git("describe", "--always", "--exclude=*");
    // not describe --dirty, which writes to it anyway
    return git("status", "--porcelain", "--untracked-files=no") === "" ? commit : `${commit}-dirty`;
  } catch {
    return null; // no git, or no repository
  }
}

/** benchmark_{name}_{hardware}_{date}_{time}.json, such as benchmark_startup_amd-epyc-9r14-2-cores_20261125_173005.json;
 * date and time in UTC. */
export function fileName({ name, hardware, date }: Pick<Report, "name" | "hardware" | "date">): string {
  const slug = `${hardware.cpu.slice(0, 40)} ${hardware.cores} cores`.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-");
  return `benchmark_${name}_${slug.replace(/^-/, "")}_${stamp(new Date(date))}.json`;
}

/** Create the folder of the results. @throws UserError if that fails */
export function prepareFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true });
  } catch (error) {
    throw explain(error, "can't create the folder of --results (empty writes none)");
  }
}

/** Check that a picture can be drawn and that --to can be written, before minutes of measuring. */
export function prepareTo(to: string): void {
  needPackages("can't draw a picture", "echarts");
  try {
    mkdirSync(dirname(to), { recursive: true });
  } catch (error) {
    throw explain(error, `can't create the folder of --to=${to}`);
  }
}

/** Write a report into a folder under its own name. @returns the path */
export function writeReport(folder: string, report: Report): string {
  const path = join(folder, fileName(report));
  writeJson(path, report);
  return path;
}

/** The report in a file. @throws UserError if there is none */
export function readReport(path: string): Report {
  const fail = (why: string) => new UserError(`${path} isn't a result of bench.ts (${why}); --compare wants one`);
  const report = readJson(path, Report, fail);
  if (!report) throw new UserError(`no file ${path}; --compare wants one that bench.ts wrote`);
  return report;
}
