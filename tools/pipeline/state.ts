// A pipeline's state, in OUT_DIR/pipeline.json: its settings, and each stage's progress, inputs and outputs. A finished stage stays finished
// while both are the same, byte for byte: checksums decide, not dates. Left out: what the stages do (stages.ts).

import { createHash } from "node:crypto";
import { closeSync, createReadStream, existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { writeJson } from "../../lib/common/atomic.ts";
import { explain, UserError } from "../../lib/common/errors.ts";
import { openFile, readJson } from "../../lib/common/read_file.ts";
import { z } from "../../lib/common/zod.ts";
import { currentSetting, currentSettings } from "../../lib/settings/renamed.ts";

const STATE_FILE = "pipeline.json";
export const STAGES = ["process", "optimize", "train", "evaluate", "generate"] as const;
export type StageName = (typeof STAGES)[number];

const Mark = z.object({ bytes: z.int(), sha256: z.string() });
const INSIDE = /^(?!\/)(?!.*(^|[/\\])\.\.([/\\]|$))[^\0:]+$/; // a path that stays in OUT_DIR
const Files = z.record(z.string().check(z.regex(INSIDE, "no path in the folder")), z.nullable(Mark)); // null if there is no such file
const Inputs = z.object({
  settings: z.pipe(z.record(z.string(), z.unknown()), z.transform(currentSettings)),
  files: Files,
});
const StageRecord = z.object({
  state: z.enum(["waiting", "running", "done", "stopped", "failed"]), // running without a process: killed
  why: z.string(), // why it ran
  started: z.string(),
  ended: z.nullable(z.string()),
  seconds: z.nullable(z.number()),
  commands: z.array(z.string()),
  inputs: Inputs,
  outputs: Files, // by their paths in OUT_DIR
  replaces: z.optional(Mark), // train: an existing checkpoint that isn't its own; one that it resumes from is
  error: z.nullable(z.string()),
});
const Given = z.object({ value: z.unknown(), from: z.enum(["flag", "file"]) });
const State = z.object({
  format_version: z.literal(1),
  given: z.pipe(z.record(z.string(), Given), z.transform(givenNow)), // the settings that aren't defaults
  config_file: z.nullable(z.string()),
  stages: z.partialRecord(z.enum(STAGES), StageRecord),
});

export type Mark = z.infer<typeof Mark>;
export type Files = z.infer<typeof Files>;
export type Inputs = z.infer<typeof Inputs>;
export type StageRecord = z.infer<typeof StageRecord>;
export type State = z.infer<typeof State>;

function givenNow(given: Record<string, z.infer<typeof Given>>): Record<string, z.infer<typeof Given>> {
  return Object.fromEntries(
    Object.entries(given).map(([name, { value: said, from }]) => {
      const { key, value } = currentSetting(name, said);
      return [key, { value, from }];
    }),
  );
}

/**
 * The state in a folder, or undefined if there is no pipeline.
 * @throws UserError if the file is damaged
 */
export function readState(outDir: string): State | undefined {
  const path = join(outDir, STATE_FILE);
  return readJson(path, State, (why) => {
    return new UserError(`${path} is not a pipeline's state (${why}); give another --out_dir, or remove the file`);
  });
}

export function writeState(outDir: string, state: State): void {
  writeJson(join(outDir, STATE_FILE), state);
}

/** Remove incomplete files of killed pipelines. The caller holds the folder's lock. */
export function sweep(outDir: string): void {
  if (!existsSync(outDir)) return;
  for (const name of readdirSync(outDir)) {
    if (/^(pipeline|optimize)\.json\.\d+\.tmp$/.test(name)) rmSync(join(outDir, name), { force: true });
  }
}

/** Size and SHA-256 of files, by name; null for a missing one. Yields to signals meanwhile. */
export async function marksOf(paths: Record<string, string>): Promise<Files> {
  const marks: Files = {};
  for (const [name, path] of Object.entries(paths)) marks[name] = await markOf(path);
  return marks;
}

/** @param expected size; a file of another size isn't read */
export async function markOf(path: string, expected?: number): Promise<Mark | null> {
  const opened = openFile(path);
  if (!opened) return null;
  const { file: fd, stat } = opened;
  const hash = createHash("sha256");
  let bytes = 0;
  try {
    if (expected !== undefined && stat.size !== expected) return { bytes: stat.size, sha256: "" };
    for await (const part of createReadStream(path, { fd, autoClose: false, highWaterMark: 1 << 20 })) {
      hash.update(part);
      bytes += part.length;
    }
  } catch (error) {
    throw explain(error, `can't read ${path}`);
  } finally {
    closeSync(fd);
  }
  return { bytes, sha256: hash.digest("hex") };
}

/**
 * Why a stage has to run, in words that follow "because"; undefined if it has finished and nothing has changed.
 * @param inputs its present inputs
 */
export async function whyRun(
  record: StageRecord | undefined,
  inputs: Inputs,
  outDir: string,
): Promise<string | undefined> {
  if (!record || record.state === "waiting") return "it has not run yet";
  if (record.state === "running") return "it was killed";
  if (record.state === "stopped") return "it was stopped";
  if (record.state === "failed") return "it failed";
  const outputs: Files = {};
  for (const [name, mark] of Object.entries(record.outputs)) {
    outputs[name] = await markOf(join(outDir, name), mark?.bytes);
  }
  return whyOther(record.inputs, inputs) ?? firstChange(record.outputs, outputs);
}

/** How inputs differ from earlier ones; undefined if they don't. */
export function whyOther(before: Inputs, now: Inputs): string | undefined {
  const keys = [...new Set([...Object.keys(before.settings), ...Object.keys(now.settings)])];
  const changed = keys
    .map((key) => [key, JSON.stringify(before.settings[key]), JSON.stringify(now.settings[key])] as const)
    .filter(([, was, is]) => was !== is)
    .map(([key, was = "its default", is = "its default"]) => `${key} was ${was} and is ${is}`);
  if (changed.length > 3) changed.splice(2, changed.length, `${changed.length - 2} more settings changed`);
  return changed.length > 0 ? changed.join(", ") : firstChange(before.files, now.files);
}

function firstChange(before: Files, now: Files): string | undefined {
  for (const name of new Set([...Object.keys(before), ...Object.keys(now)])) {
    const [was, is] = [before[name] ?? null, now[name] ?? null];
    if (was?.sha256 === is?.sha256) continue;
    return `${name} ${is === null ? "is gone" : was === null ? "is new" : "has changed"}`;
  }
  return undefined;
}
