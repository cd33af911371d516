// Reads prompts in a loop, one per line, from a terminal or a pipe. Ctrl-C interrupts a sample; at the prompt it exits, like Ctrl-D and
// "exit". stdout is only for the text: the prompt sign and the line editor write to stderr.

import { createInterface } from "node:readline";

import { errorLine, UserError } from "../common/errors.ts";

/**
 * Pass each non-empty line to `answer`, one after the other.
 * @param answer checks `interrupted()` now and then, and ends early if it is true
 */
export async function promptLoop(answer: (line: string, interrupted: () => boolean) => Promise<void>): Promise<void> {
  const { stdin, stderr } = process;
  const terminal = Boolean(stdin.isTTY);
  const lines = createInterface({ input: stdin, output: terminal ? stderr : undefined, terminal, prompt: "> " });
  let answering = false;
  let interrupted = false;
  let closed = false; // Ctrl-D may come while an answer is written
  const promptSign = () => {
    if (terminal && !closed) lines.prompt();
  };
  const interrupt = () => {
    if (answering) interrupted = true;
    else lines.close();
  };
  lines.on("SIGINT", interrupt); // Ctrl-C in the line editor
  process.on("SIGINT", interrupt); // a signal from elsewhere, and Ctrl-C if stdin is a pipe
  lines.on("close", () => {
    closed = true;
  });
  try {
    promptSign();
    for await (const line of lines) {
      if (line.trim() === "exit") break;
      if (line !== "") {
        [answering, interrupted] = [true, false];
        try {
          await answer(line, () => interrupted);
        } catch (error) {
          if (!(error instanceof UserError)) throw error;
          console.error(errorLine(error)); // such as a character without a token: continue with the next line
        }
        answering = false;
      }
      promptSign();
    }
    if (terminal) stderr.write("\n");
  } finally {
    lines.close();
    process.off("SIGINT", interrupt);
  }
}
