// Runs a stage's scripts, one at a time; their output goes into the stage's log. Ctrl-C and SIGTERM are acknowledged at once and passed on,
// and the pipeline waits for the script to save its state and end.

import type { ChildProcess } from "node:child_process";
import { closeSync, mkdirSync, openSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { errorLine, problemOf, startScript } from "../../lib/common/child.ts";
import { explain, UserError } from "../../lib/common/errors.ts";
import type { Progress } from "../../lib/common/progress.ts";
import { commandOf } from "../../lib/common/scripts.ts";
import { ECHO } from "../../lib/common/signals.ts";

const WATCH_PARENT = new URL("watch_parent.ts", import.meta.url).href;

/** The pipeline was stopped by a signal. */
export class Stopped extends Error {
  override name = "Stopped";
  readonly signal: NodeJS.Signals;

  constructor(signal: NodeJS.Signals) {
    super(`stopped by ${signal}`);
    this.signal = signal;
  }
}

export interface RunOptions {
  log: string; // the file to append to
  onStart?: (command: string) => void; // the command as typed
  bar?: Pick<Progress, "stop">; // removed at a signal
}

/** Runs scripts, and handles signals until its `dispose`. */
export class Runner {
  /** The signal received. */
  signal: NodeJS.Signals | undefined;
  #heard = 0; // time of the signal, in ms
  readonly #say: (line: string) => void;
  readonly #now: () => number;
  #child: ChildProcess | undefined;
  #bar: RunOptions["bar"];

  constructor(say: (line: string) => void, now: () => number = () => performance.now()) {
    this.#say = say;
    this.#now = now;
    process.on("SIGINT", this.#stop).on("SIGTERM", this.#stop);
  }

  readonly #stop = (signal: NodeJS.Signals) => {
    if (this.signal === undefined) {
      this.signal = signal;
      this.#heard = this.#now();
      this.#bar?.stop();
      this.#say(`${signal}: waiting for the stage to stop; once more ends it at once`);
      this.#child?.kill(signal);
    } else if (this.#now() - this.#heard > ECHO) this.#child?.kill("SIGKILL");
  };

  dispose(): void {
    process.off("SIGINT", this.#stop).off("SIGTERM", this.#stop);
  }

  /** @throws Stopped after a signal */
  check(): void {
    if (this.signal) throw new Stopped(this.signal);
  }

  /**
   * Run a script of the repository, such as "train.ts", to its end. @returns its stdout
   * @throws UserError with its error line, Stopped if a signal ended it
   */
  async run(script: string, args: readonly string[], { log, onStart, bar }: RunOptions): Promise<string> {
    this.check();
    const command = commandOf(script, args);
    onStart?.(command);
    const file = openLog(log);
    this.#bar = bar;
    try {
      writeSync(file, `$ ${command}\n`);
      // ipc: it notices when this process is gone. ownGroup: ^C comes only from here; twice would end it at once
      const options = { ipc: true, ownGroup: true, onPart: (part: string) => void writeSync(file, part) };
      const { process: child, ended } = startScript(script, args, options, ["--import", WATCH_PARENT]);
      this.#child = child;
      const end = await ended;
      const problem = problemOf(end);
      if (problem === undefined) return end.stdout;
      this.check();
      const memory = end.signal ? " (too little memory?)" : "";
      throw new UserError(`${errorLine(end.stderr) ?? `${script}: ${problem}${memory}`} (its output is in ${log})`);
    } finally {
      this.#child = this.#bar = undefined;
      closeSync(file);
    }
  }
}

function openLog(path: string): number {
  try {
    mkdirSync(dirname(path), { recursive: true });
    return openSync(path, "a");
  } catch (error) {
    throw explain(error, `can't write ${path}`);
  }
}
