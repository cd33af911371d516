// Runs the stages in their order: each one that hasn't finished, whose inputs or outputs have changed, or that was asked
// for. Before and after each, OUT_DIR/pipeline.json says so, written whole: whatever kills the process, the next one knows
// where to go on. Left out: what the stages do (stages.ts).

import { rmdirSync, rmSync } from "node:fs";
import { join } from "node:path";

import { commandOf } from "../config/scripts.ts";
import { shownPath } from "../data/dataset.ts";
import { explain, hasCode, UserError } from "../engine/errors.ts";
import { lock } from "../engine/lock.ts";
import { stamp } from "../monitor/file_names.ts";
import { Runner, Stopped } from "./child.ts";
import { type Context, SCRATCH, stages } from "./stages.ts";
import {
  type Inputs,
  marksOf,
  readState,
  STAGES,
  type StageName,
  type StageRecord,
  type State,
  whyOther,
  whyRun,
  writeState,
} from "./state.ts";

export interface Wish {
  from?: StageName | undefined; // run it and all after it again
  only?: StageName | undefined; // run it again, and nothing else
}

/** What a stage would do, and why. */
export interface Planned {
  name: StageName;
  runs: boolean;
  why: string;
}

/** Which stages would run if they did so now. A stage after one that runs is looked at again when its turn comes. */
export function plan(context: Context, state: State, { from, only }: Wish): Planned[] {
  let earlier: StageName | undefined; // the last one that runs
  return STAGES.map((name) => {
    if (only && name !== only) return { name, runs: false, why: `--only=${only}` };
    const forced = from && STAGES.indexOf(name) >= STAGES.indexOf(from) ? `--from=${from}` : only && `--only=${only}`;
    const why = forced ?? whyRun(state.stages[name], inputsOf(name, context), context.outDir);
    if (why !== undefined) {
      earlier = name;
      return { name, runs: true, why };
    }
    if (earlier)
      return { name, runs: false, why: `finished; runs again if ${earlier} makes anything else than before` };
    return { name, runs: false, why: "finished, and nothing has changed" };
  });
}

/** Refuse --only=STAGE where a stage before it has not finished, or not on what is there now. */
export function checkOnly(context: Context, state: State, only: StageName): void {
  for (const name of STAGES.slice(0, STAGES.indexOf(only))) {
    const why = whyRun(state.stages[name], inputsOf(name, context), context.outDir);
    if (why) throw new UserError(`--only=${only} needs ${name} before it: ${why}; use --from=${name}`);
  }
}

function inputsOf(name: StageName, context: Context): Inputs {
  const { settings, files } = stages[name].inputs(context);
  return { settings, files: marksOf(files) };
}

/** The plan in words: for each stage whether it would run, and what it would do. */
export function describePlan(context: Context, state: State, wish: Wish): string[] {
  const planned = plan(context, state, wish);
  const waits = new Set(planned.filter(({ runs }) => runs).map(({ name }) => name));
  return planned.flatMap(({ name, runs, why }) => {
    if (!runs) return [`${heading(name)} would not run: ${why}`];
    const open = name === "train" && waits.has("optimize") ? " ... and what optimize finds" : "";
    const [script, args] = stages[name].command?.(context) ?? [];
    return [
      `${heading(name)} would run: ${why}`,
      `      ${stages[name].about(context)}`,
      ...(script !== undefined && args ? [`      ${commandOf(script, args)}${open}`] : []),
    ];
  });
}

function heading(name: StageName): string {
  return `[${STAGES.indexOf(name) + 1}/${STAGES.length}] ${name.padEnd(8)}`;
}

/**
 * Run what has to run.
 * @throws UserError where a stage fails, Stopped after Ctrl-C
 */
export async function runPipeline(
  context: Context,
  given: Omit<State, "stages" | "format_version">,
  wish: Wish,
  say: (line: string) => void,
): Promise<void> {
  const { outDir } = context;
  const release = lock(join(outDir, SCRATCH), "a pipeline");
  const runner = new Runner(say);
  try {
    const state: State = { format_version: 1, ...given, stages: readState(outDir)?.stages ?? {} };
    for (const [i, name] of STAGES.entries()) {
      runner.check();
      const { runs, why } = plan(context, state, wish)[i]!;
      if (wish.only && wish.only !== name) continue;
      if (!runs) {
        say(`${heading(name)} ${why}`);
        continue;
      }
      say(`${heading(name)} ${stages[name].about(context)}${why === FIRST ? "" : ` (${why})`}`);
      await runStage(name, why, context, state, runner, say);
    }
  } finally {
    runner.dispose();
    rmSync(join(outDir, SCRATCH, "trial"), { recursive: true, force: true });
    release();
    removeEmpty(join(outDir, SCRATCH));
  }
}

/** The lock takes away a folder that it has made: not one that a killed pipeline left. Another may work in it already. */
function removeEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch (error) {
    if (!hasCode(error, "ENOTEMPTY") && !hasCode(error, "ENOENT")) throw explain(error, `can't remove ${folder}`);
  }
}

const FIRST = "it has not run yet";

async function runStage(
  name: StageName,
  why: string,
  context: Context,
  state: State,
  runner: Runner,
  say: (line: string) => void,
): Promise<void> {
  const { outDir } = context;
  const before = state.stages[name];
  const inputs = inputsOf(name, context);
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
  const begun = before !== undefined && ["running", "stopped", "failed"].includes(before.state);
  try {
    const outputs = await stages[name].run({
      ...context,
      runner,
      log,
      resumes: begun && whyOther(before.inputs, inputs) === undefined,
      say: (line) => say(`      ${line}`),
      onStart(command) {
        record.commands.push(command);
        writeState(outDir, state);
      },
    });
    record.outputs = marksOf(Object.fromEntries(outputs.map((path) => [path, join(outDir, path)])));
    end("done", null);
    say(`      done in ${record.seconds!.toFixed(1)} s`);
  } catch (error) {
    end(error instanceof Stopped ? "stopped" : "failed", error instanceof Error ? error.message : String(error));
    if (error instanceof UserError) throw new UserError(`${name}: ${error.message}`, { cause: error });
    throw error;
  }
}

/** The command that goes on with a pipeline. */
export function resumeCommand(outDir: string): string {
  return commandOf(join("tools", "pipeline.ts"), [`--out_dir=${shownPath(outDir)}`, "--resume=true"]);
}
