// Runs cases one after the other in a supervised process: one that takes too long or kills its process is a finding, too, and the next case
// gets a new process.

import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { ROOT, TSX } from "../../lib/common/scripts.ts";
import { TemporaryFolder } from "../../lib/common/temporary_folder.ts";
import { type Case, makeCase, type Outcome } from "./case.ts";

const RENEW = 400; // cases per process: readers leave sessions and modules behind
const HEAP = 1500; // MB of JavaScript objects, beyond which a process is replaced

export interface Watcher {
  run(about: Case): Promise<Outcome>;
  /** The folder of intact samples. */
  wholes: string;
  stop(): void;
}

/** @param hang seconds after which a case counts as hanging */
export function watcher(hang: number, child = join(ROOT, "tools", "fuzz", "child.ts")): Watcher {
  const temporary = new TemporaryFolder("fuzz");
  const folder = temporary.path;
  const wholes = join(folder, "whole");
  let running: ChildProcess | undefined;
  let printed = "";
  let count = 0;

  function start(): ChildProcess {
    const execArgv = [...TSX, `--max-old-space-size=${HEAP}`];
    const env = Object.fromEntries(Object.entries(process.env).filter(([key]) => !/^(NANOGPT_|DEBUG$)/.test(key)));
    const started = fork(child, [folder], { execArgv, env, cwd: folder, stdio: ["ignore", "ignore", "pipe", "ipc"] });
    started.stderr!.setEncoding("utf8").on("data", (part: string) => {
      printed = (printed + part).slice(-4000);
    });
    printed = "";
    count = 0;
    return started;
  }

  async function kill(): Promise<void> {
    if (!running) return;
    const ended = running.exitCode === null && running.signalCode === null ? once(running, "exit") : undefined;
    running.kill("SIGKILL");
    await ended;
    running = undefined;
  }

  return {
    wholes,
    async run(about) {
      if (count++ >= RENEW) await kill();
      if (!running) {
        running = start();
        await Promise.race([once(running, "message"), once(running, "exit")]); // its startup isn't part of a case
      }
      const over = new AbortController();
      const { signal } = over;
      const answer = once(running, "message", { signal }).then(([outcome]) => outcome as Outcome);
      const end = once(running, "exit", { signal }).then(
        ([code, killed]) => `ended its process with ${killed ?? code}`,
      );
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<string>((resolve) => {
        timer = setTimeout(() => resolve(`hangs: nothing after ${hang} s`), 1000 * hang);
      });
      running.send(about);
      const first = await Promise.race([answer, end, late]);
      clearTimeout(timer);
      for (const waits of [answer, end]) waits.catch(() => {}); // given up
      over.abort();
      if (typeof first !== "string") {
        if (first.fault) await kill(); // its leftovers may affect the next case
        return first;
      }
      await kill();
      const made = await makeCase(about, wholes, join(folder, "case"));
      return { ...about, damage: made.damage, fault: first, printed };
    },
    stop() {
      running?.kill("SIGKILL");
      temporary.remove();
    },
  };
}
