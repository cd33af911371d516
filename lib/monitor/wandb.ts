// Weights & Biases, as in nanoGPT. Its JavaScript package is an unmaintained beta, so a child process feeds Python's (wandb_feed.py):
// NANOGPT_PYTHON, else python3, else python. Modes, keys and servers are left to wandb (WANDB_MODE, WANDB_API_KEY, ...). Its files go to OUT_DIR/wandb.
//
// Every step is logged, under our metrics' names, with "iter" as the axis: steps repeated after a resume or rollback
// are plotted again.

import { type ChildProcessByStdio, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { Socket } from "node:net";
import type { Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import { lastLine, startChild } from "../common/child.ts";
import { explain, hasCode, UserError } from "../common/errors.ts";
import { z } from "../common/zod.ts";
import type { Callback, EndReason, Metrics, Run } from "./callback.ts";

const FEED = fileURLToPath(new URL("wandb_feed.py", import.meta.url));
const CHECK_PATIENCE = 60_000; // ms: wandb may ask its server about the key
const WRITE_EVERY = 1000; // ms
const MOST_CHARACTERS = 16e6; // waiting for a child that does not read
const AT_ONCE = 1e6; // characters: more would delay a step
const END_PATIENCE = 60_000; // ms, to send what is left
const EXIT_CODES = { finished: 0, stopped: 0, interrupted: 255, failed: 1 } satisfies Record<EndReason, number>;
const WORTH_SAYING = /offline|https?:|error|warn/i; // lines of wandb's to pass on

const State = z.object({ id: z.string() });
const Answer = z.object({ problem: z.optional(z.enum(["missing", "login"])), message: z.optional(z.string()) });

type Child = ChildProcessByStdio<Writable, null, Readable>;

let python: string | undefined; // the one that works

/**
 * Check that wandb can be used.
 * @throws UserError if there is no Python, it has no wandb, or wandb would ask for a login
 */
export async function checkWandb(): Promise<void> {
  python = undefined;
  const given = process.env.NANOGPT_PYTHON;
  const candidates = given ? [given] : ["python3", "python"];
  for (const candidate of candidates) {
    const said = await ask(candidate);
    if (said === undefined) continue;
    if (said.problem === "missing") {
      throw new UserError(
        `wandb_log needs Python's wandb, and ${candidate} has none; pip install wandb, or leave wandb_log false`,
      );
    }
    if (said.problem === "login") {
      throw new UserError(
        `wandb can't log in: ${said.message?.replace(/\.$/, "")}; run \`wandb login\`, set WANDB_MODE=offline, or leave wandb_log false`,
      );
    }
    python = candidate;
    return;
  }
  throw new UserError(
    `wandb_log needs Python's wandb, and there is no ${candidates.join(" and no ")} to run; ` +
      "install Python and its wandb, or leave wandb_log false",
  );
}

/** The answer of a Python's wandb to the check; undefined if there is no such Python. */
async function ask(command: string): Promise<z.infer<typeof Answer> | undefined> {
  const { process: child, ended } = startChild(command, [FEED, "--check"]);
  const timer = setTimeout(() => child.kill("SIGKILL"), CHECK_PATIENCE);
  try {
    const { code, signal, stdout, stderr } = await ended;
    if (code === 0) return Answer.parse(JSON.parse(lastLine(stdout)));
    throw new UserError(`wandb can't be used with ${command}: ${lastLine(stderr).trim() || (signal ?? code)}`);
  } catch (error) {
    if (hasCode(error, "ENOENT")) return undefined;
    throw explain(error, `can't run ${command}`);
  } finally {
    clearTimeout(timer);
  }
}

export interface WandbOptions {
  readonly project: string;
  readonly runName: string;
  readonly patience?: number; // ms, to send what is left at the end
}

/** Logs to the run `runName` of a project. */
export function wandb({ project, runName, patience = END_PATIENCE }: WandbOptions): Callback {
  let run: Run;
  let id: string | undefined; // wandb's, of this run
  let child: Child | undefined;
  let ended: Promise<void>;
  let failure: Error | undefined;
  let finishing = false;
  let printed = ""; // the last of what the child printed on stderr
  const lines: string[] = []; // waiting to be written
  let characters = 0; // in `lines`
  let dropped = 0; // lines
  let full = false; // is the pipe full?
  let written = Number.NEGATIVE_INFINITY; // time of the last write, in ms

  function start(command: string): void {
    // its own process group: Ctrl-C in a terminal reaches only the trainer
    const detached = process.platform !== "win32";
    child = spawn(command, [FEED], { stdio: ["pipe", "ignore", "pipe"], detached, windowsHide: true });
    ended = new Promise((resolve) => {
      child!.on("error", (error) => {
        failure ??= new Error(`Python's wandb could not be started: ${error.message}`);
        resolve();
      });
      child!.on("close", (code, signal) => {
        if (!finishing || code !== 0) {
          const why = lastLine(printed).trim();
          failure ??= new Error(`Python's wandb ended with ${signal ?? `exit code ${code}`}${why && `: ${why}`}`);
        }
        resolve();
      });
    });
    child.stdin.on("error", () => {}); // the child has ended: "close" reports it
    child.stdin.on("drain", () => {
      full = false;
      if (characters > AT_ONCE) write();
    });
    let rest = "";
    child.stderr.setEncoding("utf8").on("data", (part: string) => {
      printed = (printed + part).slice(-4000);
      const whole = (rest + part).split(/\r?\n/);
      rest = whole.pop()!.slice(-4000);
      for (const line of whole) {
        if (WORTH_SAYING.test(line)) run.log(`wandb: ${line.replace(/^wandb:\s*/, "").trim()}`);
      }
    });
    // a trainer that ends without onTrainEnd must not wait for it
    child.unref();
    for (const stream of [child.stdin, child.stderr]) if (stream instanceof Socket) stream.unref();
  }

  function add(line: string): void {
    lines.push(line);
    characters += line.length;
    if (characters > MOST_CHARACTERS) {
      const gone = lines.splice(0, Math.ceil(lines.length / 10)); // the oldest
      for (const { length } of gone) characters -= length;
      dropped += gone.length;
    }
    if (!full && performance.now() - written >= WRITE_EVERY) write();
  }

  /** Write the waiting lines, or the oldest of them. */
  function write(most = AT_ONCE): void {
    let [count, size] = [0, 0];
    while (count < lines.length && size < most) size += lines[count++]!.length;
    full = !child!.stdin.write(lines.splice(0, count).join(""));
    [characters, written] = [characters - size, performance.now()];
  }

  function hear(): void {
    if (failure) throw failure;
  }

  return {
    name: "wandb",
    onError: "continue",
    async onTrainStart(started) {
      run = started;
      id ??= randomUUID().slice(0, 8);
      if (!python) await checkWandb();
      const { config, facts, outDir } = run;
      start(python!);
      add(`${JSON.stringify({ project, name: runName, id, dir: outDir, config: { ...config, facts } })}\n`);
    },
    onStep({ iter, metrics }) {
      hear();
      add(`{"iter":${iter}${numbers(metrics)}}\n`);
    },
    onEvaluate({ iter, metrics, texts }) {
      hear();
      const also = texts.size > 0 ? `,"texts":${JSON.stringify(Object.fromEntries(texts))}` : "";
      add(`{"iter":${iter}${numbers(metrics)}${also}}\n`);
    },
    async onTrainEnd({ reason }) {
      hear();
      finishing = true;
      lines.push(`{"finish":${EXIT_CODES[reason]}}\n`);
      write(Number.POSITIVE_INFINITY);
      child!.stdin.end();
      if (!(await within(patience, ended))) {
        child!.kill("SIGKILL");
        run.log(`wandb: not done after ${patience / 1000} s, so it was stopped; \`wandb sync\` sends what is missing`);
        return;
      }
      if (dropped > 0) run.log(`wandb: it read too slowly; ${dropped} steps are missing there`);
      hear();
    },
    state: () => ({ id }),
    restore(state) {
      if (!child) ({ id } = State.parse(state));
    },
  };
}

/** JSON with NaN and Infinity, which Python reads, after the other fields. */
function numbers(metrics: Metrics): string {
  let text = "";
  for (const name in metrics) text += `,${JSON.stringify(name)}:${metrics[name]}`;
  return text;
}

/** Did the child end in time? */
async function within(limit: number, work: Promise<unknown>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const tooLate = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), limit);
  });
  const inTime = await Promise.race([work.then(() => true), tooLate]);
  clearTimeout(timer);
  return inTime;
}
