// tsx' command line kills a script that doesn't answer a signal within 60 ms: it expects a message through its socket (tsx 4, dist/cli.mjs
// and dist/preflight.cjs), which tsx' own code in the script sends at the event loop's next turn. Tracing a large model takes
// longer than that, and so does an operation of an uncompiled run. So a thread that gets the signals too, and has nothing else to
// do, answers instead. Handling them stays with the script's listeners, a moment later; if that moment is long, the thread tells
// the user that the signal was received.

import { existsSync } from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";

/** JavaScript, as no loader is asked for it. Workers have no process.on("SIGINT"), but the binding below it works in them. */
const THREAD = `
const { writeSync } = require("node:fs");
const { connect } = require("node:net");
const { isatty } = require("node:tty");
const { workerData } = require("node:worker_threads");
const PATIENCE = 50; // ms for the script to answer itself
const handled = new Int32Array(workerData.handled);
process.noDeprecation = true;
const { Signal } = process.binding("signal_wrap");
const socket = connect(workerData.path).on("error", () => {}).unref();
for (const [signal, number] of Object.entries(workerData.signals)) {
  const handle = new Signal();
  handle.onsignal = () => {
    const message = Buffer.from(JSON.stringify({ type: "signal", signal }));
    const length = Buffer.alloc(4);
    length.writeInt32BE(message.length);
    socket.write(Buffer.concat([length, message]));
    setTimeout(() => {
      if (Atomics.load(handled, 0)) return;
      const line = signal + ": heard; it is acted upon as soon as the operation at work is done\\n";
      writeSync(2, (isatty(2) ? "\\r\\n" : "") + line); // a progress bar may be on the terminal's line
    }, PATIENCE);
  };
  handle.start(number);
}
`;

/**
 * Answer tsx' command line, if it has started this process, when one of these signals comes.
 * @returns a function to call once the process itself has received one
 */
export function answerTsx(signals: Record<string, number>): () => void {
  const handled = new SharedArrayBuffer(4);
  const done = () => void Atomics.store(new Int32Array(handled), 0, 1);
  if (process.platform === "win32") return done; // it doesn't ask there
  const path = join(tmpdir(), `tsx-${process.geteuid?.() ?? userInfo().username}`, `${process.ppid}.pipe`);
  if (!existsSync(path)) return done;
  const options = { eval: true, execArgv: [], workerData: { path, signals, handled } };
  new Worker(THREAD, options).on("error", () => {}).unref(); // without the thread tsx is answered too, only later
  return done;
}
