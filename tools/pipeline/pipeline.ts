// Runs the stages in order: each one that hasn't finished, whose inputs or outputs have changed, or that was requested. Before and after each,
// OUT_DIR/pipeline.json is updated atomically: after any kill the next run knows where to continue. Left out: what the stages do
// (stages.ts).

import { rmdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { explain, hasCode, UserError } from "../../lib/common/errors.ts";
import { stamp } from "../../lib/common/file_names.ts";
import { lock } from "../../lib/common/lock.ts";
import { commandOf } from "../../lib/common/scripts.ts";
import type { Settings } from "../../lib/settings/rules.ts";
import { shownPath } from "../../lib/text/dataset.ts";
import { type Beginning, beginningOf, untilFree } from "./beginning.ts";
import { Runner, Stopped } from "./child.ts";
import { numberOf } from "./settings.ts";
import { type Context, SCRATCH, stages } from "./stages.ts";
import {
  type Inputs,
  marksOf,
  readState,
  STAGES,
  type StageName,
  type StageRecord,
  type State,
  sweep,
  whyRun,
  writeState,
} from "./state.ts";

export interface Wish {
  from?: StageName | undefined; // run it and all after it again
  only?: StageName | undefined; // run it again, and nothing else
}

/** A stage's plan, and why. */
export interface Planned {
  name: StageName;
  runs: boolean;
  why: string;
}

/** The stages that would run now. A stage after one that runs is checked again when its turn comes. */
export async function plan(context: Context, state: State, wish: Wish): Promise<Planned[]> {
  let earlier: StageName | undefined; // the last one that runs
  const planned: Planned[] = [];
  for (const name of STAGES) {
    if (wish.only && name !== wish.only) {
      planned.push({ name, runs: false, why: `--only=${wish.only}` });
      continue;
    }
    const { why } = await look(name, context, state, wish);
    if (why !== undefined) earlier = name;
    const rest = earlier ? `finished; runs again if ${earlier} makes anything else than before` : UNCHANGED;
    planned.push({ name, runs: why !== undefined, why: why ?? rest });
  }
  return planned;
}

/** A stage's present inputs, and why it would run; undefined if it would not. */
async function look(
  name: StageName,
  context: Context,
  state: State,
  wish: Wish,
): Promise<{ why: string | undefined; inputs: Inputs }> {
  const inputs = await inputsOf(name, context);
  return { why: askedFor(name, wish) ?? (await whyRun(state.stages[name], inputs, context.outDir)), inputs };
}

/** The flag that requests a stage by name. */
function askedFor(name: StageName, { from, only }: Wish): string | undefined {
  if (from && STAGES.indexOf(name) >= STAGES.indexOf(from)) return `--from=${from}`;
  return only === name ? `--only=${only}` : undefined;
}

/** Refuse --only=STAGE if an earlier stage has not finished on the present inputs. */
export async function checkOnly(context: Context, state: State, only: StageName): Promise<void> {
  for (const name of STAGES.slice(0, STAGES.indexOf(only))) {
    const { why } = await look(name, context, state, {});
    if (why) throw new UserError(`--only=${only} needs ${name} before it: ${why}; use --from=${name}`);
  }
}

async function inputsOf(name: StageName, context: Context): Promise<Inputs> {
  const { settings, files } = stages[name].inputs(context);
  return { settings, files: await marksOf(files) };
}

/** How a stage begins: most have only one way. */
async function begin(name: StageName, context: Context, state: State, inputs: Inputs, wish: Wish): Promise<Beginning> {
  if (name !== "train") return {};
  return beginningOf(context.outDir, state.stages[name], inputs, askedFor(name, wish) !== undefined);
}

/** The plan in words: for each stage, would it run, and what would it do? */
export async function describePlan(context: Context, state: State, wish: Wish): Promise<string[]> {
  const planned = await plan(context, state, wish);
  const waits = new Set(planned.filter(({ runs }) => runs).map(({ name }) => name));
  const lines: string[] = [];
  for (const { name, runs, why } of planned) {
    lines.push(`${heading(name)} ${runs ? "would run" : "would not run"}: ${why}`);
    if (!runs) continue;
    const open = name === "train" && waits.has("optimize") ? " ... and what optimize finds" : "";
    const beginning = await begin(name, context, state, await inputsOf(name, context), wish);
    const [script, args] = stages[name].command?.(context, beginning) ?? [];
    lines.push(`      ${stages[name].about(context)}`);
    if (script !== undefined && args) lines.push(`      ${commandOf(script, args)}${open}`);
  }
  return lines;
}

function heading(name: StageName): string {
  return `[${STAGES.indexOf(name) + 1}/${STAGES.length}] ${name.padEnd(8)}`;
}

/**
 * Run the stages that have to. @returns their names
 * @throws UserError if a stage fails, Stopped after Ctrl-C
 */
export async function runPipeline(
  context: Context,
  given: Omit<State, "stages" | "format_version">,
  wish: Wish,
  say: (line: string) => void,
): Promise<StageName[]> {
  const { outDir } = context;
  const ran: StageName[] = [];
  const release = lock(join(outDir, SCRATCH), "a pipeline");
  const runner = new Runner(say);
  try {
    sweep(outDir);
    const state: State = { format_version: 1, ...given, stages: readState(outDir)?.stages ?? {} };
    for (const name of STAGES) {
      runner.check();
      if (wish.only && wish.only !== name) continue;
      const { why, inputs } = await look(name, context, state, wish);
      if (why === undefined) {
        say(`${heading(name)} ${UNCHANGED}`);
        continue;
      }
      if (name === "train" && state.stages.train?.state === "running")
        await untilFree(outDir, say, () => runner.check());
      const beginning = await begin(name, context, state, inputs, wish);
      say(`${heading(name)} ${stages[name].about(context)}${why === FIRST ? "" : ` (${why})`}`);
      await runStage({ name, why, inputs, beginning }, context, state, runner, say);
      ran.push(name);
    }
    return ran;
  } finally {
    runner.dispose();
    rmSync(join(outDir, SCRATCH, "trial"), { recursive: true, force: true });
    release();
    removeEmpty(join(outDir, SCRATCH));
  }
}

/** The lock removes a folder that it has created, but not one left by a killed pipeline. Another process may use it already. */
function removeEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch (error) {
    if (!hasCode(error, "ENOTEMPTY") && !hasCode(error, "ENOENT")) throw explain(error, `can't remove ${folder}`);
  }
}

const FIRST = "it has not run yet";
const UNCHANGED = "finished, and nothing has changed";

interface Task {
  name: StageName;
  why: string;
  inputs: Inputs;
  beginning: Beginning;
}

async function runStage(
  { name, why, inputs, beginning }: Task,
  context: Context,
  state: State,
  runner: Runner,
  say: (line: string) => void,
): Promise<void> {
  const { outDir } = context;
  const began = new Date();
  const log = join(outDir, "logs", `pipeline_${name}_${stamp(began)}.log`);
  const record: StageRecord = {
    state: "running",
    why,
    started: began.toISOString(),
    ended: null,
    seconds: null,
    commands: [],
    inputs,
    outputs: {},
    ...(beginning.replaces && { replaces: beginning.replaces }),
    error: null,
  };
  state.stages[name] = record;
  writeState(outDir, state);
  const end = (outcome: StageRecord["state"], error: string | null) => {
    record.state = outcome;
    record.error = error;
    record.ended = new Date().toISOString();
    record.seconds = (Date.now() - began.getTime()) / 1000;
    writeState(outDir, state);
  };
  try {
    const outputs = await stages[name].run({
      ...context,
      runner,
      log,
      beginning,
      say: (line) => say(`      ${line}`),
      onStart(command) {
        record.commands.push(command);
        writeState(outDir, state);
      },
    });
    record.outputs = await marksOf(Object.fromEntries(outputs.map((path) => [path, join(outDir, path)])));
    end("done", null);
    say(`      done in ${record.seconds!.toFixed(1)} s`);
  } catch (error) {
    end(error instanceof Stopped ? "stopped" : "failed", error instanceof Error ? error.message : String(error));
    if (error instanceof UserError) throw new UserError(`${name}: ${error.message}`, { cause: error });
    throw error;
  }
}

/** The command that continues a pipeline. */
export function resumeCommand(outDir: string): string {
  return commandOf(join("tools", "pipeline.ts"), [`--out_dir=${shownPath(outDir)}`, "--resume=true"]);
}

/** The command that trains a finished pipeline's model further: for as long again. */
export function longerCommand(outDir: string): string {
  const steps = numberOf(readState(outDir)!.stages.train!.inputs.settings as Settings, "max_iters");
  return `${resumeCommand(outDir)} --max_iters=${2 * steps}`;
}
