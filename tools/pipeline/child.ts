// The scripts that a stage runs, one at a time: what they print goes into the stage's log, and line by line to whoever
// shows their progress. Ctrl-C and SIGTERM are answered at once and passed on to them, and the pipeline waits until they have
// ended: they save what they have.

import type { ChildProcess, SpawnOptions } from "node:child_process";
import { closeSync, mkdirSync, openSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { explain, UserError } from "../../lib/common/errors.ts";
import type { Progress } from "../../lib/common/progress.ts";
import { commandOf, type Ended, endOf, errorLine, startScript } from "../../lib/common/scripts.ts";
import { ECHO } from "../../lib/common/signals.ts";

const WATCH_PARENT = new URL("watch_parent.ts", import.meta.url).href;

/** The pipeline was told to stop. */
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
  onLine?: (line: string) => void; // of stdout
  onStart?: (command: string) => void; // as a person would type it
  bar?: Pick<Progress, "stop">; // taken away when a signal is heard
}

/** Runs scripts, and hears signals from its making to its `dispose`. */
export class Runner {
  /** The signal that was heard. */
  signal: NodeJS.Signals | undefined;
  #heard = 0; // when, in ms
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

  /** Go no further once a signal was heard. */
  check(): void {
    if (this.signal) throw new Stopped(this.signal);
  }

  /**
   * Run a script of the repository, such as "train.ts", to its end; what it printed on stdout.
   * @throws UserError with its line of error, Stopped where a signal ended it
   */
  async run(script: string, args: readonly string[], { log, onLine, onStart, bar }: RunOptions): Promise<string> {
    this.check();
    const command = commandOf(script, args);
    onStart?.(command);
    const file = openLog(log);
    this.#bar = bar;
    try {
      writeSync(file, `$ ${command}\n`);
      const { code, signal, stdout, stderr } = await this.#toEnd(script, args, file, onLine);
      if (code === 0) return stdout;
      this.check();
      const ending = signal ? `was ended by ${signal} (too little memory?)` : `ended with code ${code}`;
      throw new UserError(`${errorLine(stderr) ?? `${script} ${ending}`} (all it printed is in ${log})`);
    } finally {
      this.#bar = undefined;
      closeSync(file);
    }
  }

  async #toEnd(script: string, args: readonly string[], log: number, onLine: RunOptions["onLine"]): Promise<Ended> {
    const options: SpawnOptions = {
      stdio: ["ignore", "pipe", "pipe", "ipc"], // the last one tells the script that this process is gone
      detached: process.platform !== "win32", // the terminal's ^C comes from here alone: twice would end it at once
    };
    this.#child = startScript(script, args, options, ["--import", WATCH_PARENT]);
    let line = "";
    try {
      return await endOf(this.#child, (part, from) => {
        writeSync(log, part);
        if (from === "stderr" || !onLine) return;
        const lines = (line + part).split("\n");
        line = lines.pop() ?? "";
        for (const whole of lines) onLine(whole);
      });
    } finally {
      this.#child = undefined;
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
