// The scripts that a stage runs, one at a time: what they print goes into the stage's log, and line by line to whoever
// shows their progress. Ctrl-C is passed on to them, once, and the pipeline waits until they have ended.

import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

import { explain, UserError } from "../engine/errors.ts";

const HERE = dirname(fileURLToPath(import.meta.url));
const ROOT = dirname(HERE);

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
}

/** Runs scripts, and hears signals from its making to its `dispose`. */
export class Runner {
  /** The signal that was heard. */
  signal: NodeJS.Signals | undefined;
  readonly #say: (line: string) => void;
  #child: ChildProcess | undefined;

  constructor(say: (line: string) => void) {
    this.#say = say;
    process.on("SIGINT", this.#stop).on("SIGTERM", this.#stop);
  }

  readonly #stop = (signal: NodeJS.Signals) => {
    if (!this.signal) this.#say(`${signal}: waiting for the stage to stop; once more ends it at once`);
    this.signal ??= signal;
    this.#child?.kill(signal);
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
  async run(script: string, args: readonly string[], { log, onLine, onStart }: RunOptions): Promise<string> {
    this.check();
    const command = commandOf(script, args);
    onStart?.(command);
    const file = openLog(log);
    try {
      writeSync(file, `$ ${command}\n`);
      const { code, signal, stdout, stderr } = await this.#spawn(script, args, file, onLine);
      if (code === 0) return stdout;
      this.check();
      const error = /^error: (.+)$/m.exec(stderr)?.[1];
      const ending = signal ? `was ended by ${signal} (too little memory?)` : `ended with code ${code}`;
      throw new UserError(`${error ?? `${script} ${ending}`} (all it printed is in ${log})`);
    } finally {
      closeSync(file);
    }
  }

  #spawn(script: string, args: readonly string[], log: number, onLine: ((line: string) => void) | undefined) {
    // Node's own flags are those of this process: they hold the loader that reads TypeScript
    const watch = ["--import", pathToFileURL(join(HERE, "watch_parent.ts")).href];
    const child = spawn(process.execPath, [...process.execArgv, ...watch, join(ROOT, script), ...args], {
      env: Object.fromEntries(Object.entries(process.env).filter(([key]) => !key.startsWith("NANOGPT_"))),
      stdio: ["ignore", "pipe", "pipe", "ipc"], // the last one tells the script that this process is gone
      detached: process.platform !== "win32", // the terminal's ^C comes from here alone: twice would end it at once
    });
    this.#child = child;
    const text = { stdout: "", stderr: "" };
    let line = "";
    for (const name of ["stdout", "stderr"] as const) {
      child[name]!.setEncoding("utf8").on("data", (part: string) => {
        text[name] += part;
        writeSync(log, part);
        if (name === "stderr" || !onLine) return;
        const lines = (line + part).split("\n");
        line = lines.pop() ?? "";
        for (const whole of lines) onLine(whole);
      });
    }
    return new Promise<{ code: number | null; signal: NodeJS.Signals | null } & typeof text>((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (code, signal) => {
        this.#child = undefined;
        resolve({ code, signal, ...text });
      });
    });
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

/** A script's command as a person would type it. */
export function commandOf(script: string, args: readonly string[]): string {
  const quoted = (arg: string) => (/^[\w@%+=:,./-]+$/.test(arg) ? arg : `'${arg.replaceAll("'", "'\\''")}'`);
  return ["tsx", script, ...args].map(quoted).join(" ");
}
