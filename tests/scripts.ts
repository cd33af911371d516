// Runs the project's scripts as a person does, as child processes: what they print, how they end, what they leave.

import assert from "node:assert/strict";
import { type ChildProcess, fork, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once as onceTold } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { type Ended, endOf } from "../lib/common/child.ts";
import { keyOf, uniform } from "../lib/common/rng.ts";
import { ROOT, TSX } from "../lib/common/scripts.ts";
import { prepareCharacters } from "../lib/text/characters.ts";
import type { Order } from "./one_process.ts";

export { type Ended, ROOT, TSX };

/** ms until something is taken to hang, not to be slow: no test fails because the machine is busy. */
export const PATIENCE = 240_000;

/** Wait until `condition` holds, by a clock that no test stops. */
export async function eventually(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (const deadline = Date.now() + PATIENCE; !(await condition()); ) {
    if (Date.now() > deadline) assert.fail(`still not after ${PATIENCE / 1000} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** What `make` gives, made when it is first asked for: tests that share it can run alone, and in any order. */
export function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => {
    made ??= make();
    return made;
  };
}

/**
 * What an attempt gives, the first of three that passes: for scripts under tsx' command line, which kills what doesn't answer a
 * signal within 60 ms. Where other tests keep the cores busy, none of its threads may get one so soon.
 */
export const attempts = <T>(attempt: (i: number) => Promise<T>): Promise<T> =>
  attempt(0)
    .catch(() => attempt(1))
    .catch(() => attempt(2));

/** A new folder, removed when the tests of the file have ended. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "nanogpt-test-"));
  after(() => rmSync(folder, { recursive: true, force: true, maxRetries: 3 }));
  return folder;
}

export interface Running {
  child: ChildProcess;
  ended: Promise<Ended>;
  /** Wait until stdout matches; an error where the process ends before it does. */
  until(pattern: RegExp): Promise<void>;
}

export interface LaunchOptions {
  cwd?: string; // the repository if not given
  env?: Record<string, string>;
  timeout?: number; // ms until it is killed
}

/** Start a script of the repository, such as "train.ts". */
export function launch(script: string, args: readonly string[], options: LaunchOptions = {}): Running {
  return launchCommand(process.execPath, [...TSX, join(ROOT, script), ...args], options);
}

/** Start any program, in `inherited` and the given environment. */
export function launchCommand(command: string, args: readonly string[], options: LaunchOptions = {}): Running {
  const { cwd = ROOT, env = {}, timeout = PATIENCE } = options;
  const child = spawn(command, args, { cwd, env: { ...inherited(), ...env } });
  const text = { stdout: "", stderr: "" };
  const waiting = new Set<() => void>();
  const timer = setTimeout(() => child.kill("SIGKILL"), timeout);
  const ended = endOf(child, (part, from) => {
    text[from] += part;
    for (const look of waiting) look();
  }).finally(() => clearTimeout(timer));
  const until = (pattern: RegExp) =>
    new Promise<void>((resolve, reject) => {
      const look = () => {
        if (pattern.test(text.stdout)) resolve();
      };
      waiting.add(look);
      look();
      ended.then(() => reject(new Error(`no ${pattern} in:\n${text.stdout}${text.stderr}`)), reject);
    });
  return { child, ended, until };
}

/** This process' environment, without the settings of whoever runs the tests; ONNX Runtime sends no telemetry where CI is set. */
function inherited(): Record<string, string | undefined> {
  const kept = Object.entries(process.env).filter(
    ([key]) => !/^(NANOGPT_|ORT_DISABLE_TELEMETRY$|CI$|NODE_(?!V8_COVERAGE)|DEBUG$)/.test(key),
  );
  return Object.fromEntries(kept);
}

/**
 * Gives `run` for scripts that end by themselves, one after the other in one other process: a start costs a second, most of it
 * for the libraries. What a script sets up (sessions of ONNX Runtime) stays until that process ends, with this one; so these are
 * refused ones, and short runs of small models.
 * @param root the repository, or a copy of it
 */
export function oneProcess(root = ROOT): (script: string, args: readonly string[], cwd?: string) => Promise<Ended> {
  let child: ChildProcess | undefined;
  let last: Promise<unknown> = Promise.resolve();
  async function ask(order: Order): Promise<Ended> {
    child ??= fork(join(root, "tests", "one_process.ts"), {
      execArgv: TSX,
      env: inherited(),
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    const over = new AbortController();
    const end = onceTold(child, "exit", over).then(([code]) =>
      assert.fail(`${order.script} ended its process with ${code}`),
    );
    end.catch(() => {}); // as it is told when the answer is there
    // this process waits for an answer, and else not for the other's end, which comes with its own: an after() in a test that
    // awaited what another one shares would be of that one
    child.ref();
    child.channel!.ref();
    child.send(order);
    const [ended] = await Promise.race([onceTold(child, "message", over), end]);
    over.abort();
    child.unref();
    child.channel!.unref();
    return ended;
  }
  return (script, args, cwd = root) => {
    const answer = last.then(() => ask({ script, args: [...args], cwd }));
    last = answer.catch(() => {}); // the next one is asked all the same
    return answer;
  };
}

/** Run a script to its end. */
export function run(script: string, args: readonly string[], options?: LaunchOptions): Promise<Ended> {
  return launch(script, args, options).ended;
}

/** Run a script that must succeed; gives what it printed. */
export async function succeed(script: string, args: readonly string[], options?: LaunchOptions): Promise<string> {
  return assertSucceeded(await run(script, args, options), `${script} ${args.join(" ")}`);
}

/** Exit code 0; gives what was printed. */
export function assertSucceeded({ code, signal, stdout, stderr }: Ended, what: string): string {
  assert.equal(code, 0, `${what} ended with ${code ?? signal}:\n${stdout}${stderr}`);
  return stdout;
}

/** A user's mistake gets exit code 1, nothing but one line on stderr, and no stack. */
export function assertRefused({ code, stdout, stderr }: Ended, message: RegExp): void {
  assert.match(stderr, /^error: [^\n]+\n$/, `not one line of error, but:\n${stdout}${stderr}`);
  assert.match(stderr, message);
  assert.equal(code, 1);
}

/** A number for each item, in flags: `{ n_layer: 2 }` -> `--n_layer=2`. */
export function flags(settings: Record<string, string | number | boolean>): string[] {
  return Object.entries(settings).map(([key, value]) => `--${key}=${value}`);
}

/** The name of every file below a folder with the SHA-256 of its bytes: equal only if nothing was touched. */
export function contentsOf(folder: string): Record<string, string> {
  const contents: Record<string, string> = {};
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    contents[path] = entry.isFile() ? createHash("sha256").update(readFileSync(path)).digest("hex") : "not a file";
  }
  return contents;
}

/** Lines of a few made-up words: after a word's first letters the rest is certain, so there is something to learn. */
export function madeUpText(characters: number): string {
  const words = "anchor bellow candle drifter ember fathom gallow harbor island jester kettle lantern".split(" ");
  const key = keyOf("made-up text");
  let text = "";
  for (let i = 0; text.length < characters; i++) {
    text += words[Math.floor(uniform(key, i) * words.length)] + (i % 8 === 7 ? "\n" : " ");
  }
  return text.slice(0, characters);
}

/** A dataset of made-up words in a new folder below `parent`. */
export function tinyDataset(parent: string, characters = 20_000): string {
  const directory = join(parent, "words");
  mkdirSync(directory);
  const source = { name: "made-up words", sha256: "0".repeat(64) };
  prepareCharacters({ text: madeUpText(characters), source, directory });
  return directory;
}
