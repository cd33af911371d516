// Does training resume from the checkpoint in OUT_DIR or start over? It never removes one: an old one stays until training has saved its own
// first, and the stage's record identifies the old one, so that it is never resumed.

import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { InUseError, lock } from "../../lib/common/lock.ts";
import type { Settings } from "../../lib/settings/rules.ts";
import { readMetadata } from "../../lib/training/checkpoint.ts";
import { resumeFolder } from "../../lib/training/run_checkpoint.ts";
import { flagsOf, isFree, numberOf, same, trainFlags } from "./settings.ts";
import { type Inputs, type Mark, markOf, type StageRecord, whyOther } from "./state.ts";

export const CHECKPOINT = "ckpt.json";

export interface Beginning {
  from?: number; // step of the checkpoint that it resumes from
  replaces?: Mark; // an existing checkpoint that isn't resumed
  why?: string; // it isn't resumed
}

/**
 * Stopped or killed training is resumed, and so is finished training that is to be longer, or watched differently.
 * @param before training's record; `inputs` are its present ones
 * @param again requested by name: --from=train
 */
export async function beginningOf(
  outDir: string,
  before: StageRecord | undefined,
  inputs: Inputs,
  again: boolean,
): Promise<Beginning> {
  const mark = await markOf(join(outDir, CHECKPOINT));
  if (mark === null) return {};
  const over = (why: string): Beginning => ({ replaces: mark, why });
  if (again) return over("it was asked for");
  if (before === undefined || before.state === "waiting") return over("no training here has made it");
  if (before.replaces?.sha256 === mark.sha256) return over("the training before had not saved one yet");
  const other = whyOther(bound(before.inputs), bound(inputs));
  if (other !== undefined) return over(other);
  const { iter_num } = readMetadata(resumeFolder(outDir));
  const [was, is] = [before.inputs, inputs].map(({ settings }) => numberOf(settings as Settings, "max_iters"));
  if (is! < was! && iter_num > is!) return over(`it has ${iter_num} steps, and max_iters is ${is}`);
  return { from: iter_num };
}

/** The inputs that must not change for training to resume. */
function bound({ settings, files }: Inputs): Inputs {
  return { settings: Object.fromEntries(Object.entries(settings).filter(([key]) => !isFree(key))), files };
}

/** Flags for all settings that differ from train.ts's defaults or, when resuming, from the checkpoint's. */
export function flagsFor(settings: Settings, defaults: Settings, outDir: string, { from }: Beginning): string[] {
  const flags = trainFlags(settings, defaults);
  if (from === undefined) return flags;
  const { config } = readMetadata(resumeFolder(outDir)); // resuming takes these unless others are given
  const changed = Object.entries(settings).filter(
    ([key, value]) =>
      isFree(key) && same(value, defaults[key]) && Object.hasOwn(config, key) && !same(value, config[key]),
  );
  return [...flags, ...flagsOf(Object.fromEntries(changed)), "--init_from=resume"];
}

/**
 * Wait for the training of a killed pipeline: it notices, and saves its state.
 * @param check throws if waiting is pointless
 * @param most ms
 * @throws InUseError if the folder is still in use
 */
export async function untilFree(
  outDir: string,
  say: (line: string) => void,
  check: () => void,
  most = 60_000,
): Promise<void> {
  const began = performance.now();
  for (let tries = 0; ; tries++) {
    try {
      return lock(outDir, "a pipeline")();
    } catch (error) {
      if (!(error instanceof InUseError) || performance.now() - began > most) throw error;
      if (tries === 0) say("waiting for the training of the killed pipeline to save its state");
    }
    await setTimeout(100);
    check();
  }
}
