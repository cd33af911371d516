// A progress bar at the foot of the terminal, with the time left, below the lines that a program prints. If stdout is a file or a
// pipe, only the lines.

import cliProgress from "cli-progress";

import { TimeLeft } from "./time_left.ts";

export interface Progress {
  /** Print a line above the bar. */
  log(line: string): void;
  /** Show the progress; `note` follows the bar. */
  update(done: number, note: string): void;
  /** Remove the bar. */
  stop(): void;
}

/** A bar from `start` to `total` units of work. */
export function startProgress(total: number, start = 0, log = console.log): Progress {
  if (!process.stdout.isTTY || !process.stderr.isTTY) return { log, update() {}, stop() {} };
  const bar = new cliProgress.SingleBar(
    {
      format: "{bar} {value}/{total} | {left}{note}",
      barsize: 24,
      clearOnComplete: true,
      hideCursor: true,
      linewrap: true, // the bar is cut where the terminal ends; lines longer than that are not
      forceRedraw: true, // a printed line has taken its place, so it is never there already
      gracefulExit: false, // Ctrl-C is for the program
    },
    cliProgress.Presets.shades_classic,
  );
  const time = new TimeLeft(total, start, performance.now());
  bar.start(total, start, { left: "", note: "" });
  const stop = () => {
    if (!bar.isActive) return;
    process.stderr.write("\x1b7"); // cli-progress returns to where it started: reset that, as the screen has scrolled
    bar.stop();
  };
  process.once("uncaughtExceptionMonitor", stop); // a crash leaves its stack, not a bar and a hidden cursor
  return {
    log(line) {
      if (!bar.isActive) return log(line);
      process.stderr.write("\r\x1b[2K"); // clear the bar's line
      log(line);
      bar.render();
    },
    update(done, note) {
      time.update(done, performance.now());
      bar.update(done, { left: time.text === undefined ? "" : `${time.text} | `, note });
    },
    stop,
  };
}
