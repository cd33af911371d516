// Shows running and finished runs, from the metrics.jsonl in their folders: in the terminal, or on a local page.
//
//   npx tsx tools/monitor.ts --out_dir=out-shakespeare-char
//   npx tsx tools/monitor.ts --out_dir=out-a,out-b --web=true
//   npx tsx tools/monitor.ts --out_dir=out-experiments/heads
//
// A folder without a run stands for the runs below it, including future ones. It only reads: runs aren't affected. Left out: runs on machines
// whose disk can't be read here.

import { runScript } from "../configurator.ts";
import { UserError } from "../lib/common/errors.ts";
import { namedFolders } from "../lib/common/file_names.ts";
import { RunSet } from "./monitor/run_set.ts";
import { drawRuns } from "./monitor/terminal_view.ts";

export const defaults = {
  out_dir: ["out"], // folders of runs, or of experiments, separated by commas (\, is one in a name)
  follow: true, // keep watching until Ctrl-C; false: show them once
  web: false, // on a page in the browser instead
  port: 0, // the page's, of 127.0.0.1; 0 takes a free one
  open: true, // open the page in the browser
};

const REDRAW = 500; // ms, on a terminal
const REPEAT = 10_000; // ms between two updates to a file or a pipe

/** Show runs in the terminal or on a page, until Ctrl-C if config.follow is set. */
export async function run(config: Readonly<typeof defaults>): Promise<void> {
  const folders = [...new Set(namedFolders(config.out_dir))];
  if (folders.length === 0) throw new UserError("--out_dir names no folder; give at least one: --out_dir=out");
  const runs = new RunSet(folders);
  if (config.web) {
    const { createMonitorServer } = await import("./monitor/server.ts"); // brings esbuild
    const { listen, openInBrowser } = await import("./page_server.ts");
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => process.exit(0));
    const url = await listen(await createMonitorServer(runs), config.port);
    console.log(`${runs.name} at ${url} (Ctrl-C ends it)`);
    if (config.open) openInBrowser(url);
  } else if (!config.follow) {
    process.stdout.write(`${draw(runs).join("\n")}\n`); // not console.log, which would escape the colours
  } else if (process.stdout.isTTY) {
    followOnTerminal(runs);
  } else {
    followInPipe(runs);
  }
}

/** The lines of all runs in their present state. */
function draw(runs: RunSet, rows = 40): string[] {
  const now = Date.now();
  runs.poll(now);
  const shown = runs.shown.map(({ run, label, place }) => {
    return { label, place, history: run.history, status: run.status(now) };
  });
  const columns = process.stdout.columns || 80;
  const screen = { columns, rows, color: process.stdout.isTTY && !process.env.NO_COLOR, now };
  return drawRuns(shown, screen, { others: runs.others, progress: runs.progress });
}

/** Redrawn in place on the terminal's second screen; the last state stays on the first. */
function followOnTerminal(runs: RunSet): void {
  const { stdout } = process;
  let shown = false;
  const enter = () => {
    shown = true;
    stdout.write("\x1b[?1049h\x1b[?25l"); // second screen, no cursor
    redraw();
  };
  const leave = () => {
    if (shown) stdout.write("\x1b[?25h\x1b[?1049l");
    shown = false;
  };
  const redraw = () => {
    // each line is cleared before it is written: clearing after one as wide as the terminal would erase its end
    const lines = draw(runs, (stdout.rows || 24) - 1).map((line) => `\x1b[2K${line}\n`);
    stdout.write(`\x1b[H${lines.join("")}\x1b[J`);
  };
  setInterval(redraw, REDRAW);
  stdout.on("resize", redraw);
  process.once("uncaughtExceptionMonitor", leave); // after a crash, the stack and a cursor
  process.on("SIGTSTP", () => {
    leave();
    process.kill(process.pid, "SIGSTOP");
  });
  process.on("SIGCONT", enter);
  onEnd(() => {
    leave();
    stdout.write(`${draw(runs, stdout.rows || 24).join("\n")}\n`);
  });
  enter();
}

/** A block of lines now and then, if something is new. */
function followInPipe(runs: RunSet): void {
  let last = "";
  const print = () => {
    const text = draw(runs).join("\n");
    if (text !== last) console.log(`${text}\n`);
    last = text;
  };
  setInterval(print, REPEAT);
  onEnd(() => {});
  print();
}

/** Ctrl-C, or the reader is gone. */
function onEnd(last: () => void): void {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => {
      last();
      process.exit(0);
    });
  }
  process.stdout.on("error", () => process.exit(0));
}

await runScript(import.meta.url, defaults, run, { usage: "Watch runs." });
