// What a user did wrong, in one line. Scripts run inside `main`, which turns a UserError into that line and exit
// code 1; every other error is a bug of ours and keeps its stack.

import { inspect } from "node:util";

import { guardConsole } from "./console.ts";
import { printable, shownText } from "./printable.ts";
import { endAtSignals } from "./signals.ts";

/** A mistake of the user's: the message says what is wrong, where, and what to do, in one line. */
export class UserError extends Error {
  override name = "UserError";
}

/** A loss or a gradient is NaN or infinite: settings under which this model can't be trained. */
export class DivergedError extends UserError {
  override name = "DivergedError";
}

/** Is it, or what caused it, one of these? */
export function hasDiverged(error: unknown): boolean {
  return error instanceof DivergedError || (error instanceof Error && error.cause instanceof DivergedError);
}

/** True where `error` is a Node system error with this code, such as "ENOENT". */
export function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}

/** A fault of the system (no permission, no space, ...) as a one-line UserError; any other error as it is. */
export function explain(error: unknown, what: string): unknown {
  return error instanceof Error && "syscall" in error
    ? new UserError(`${what}: ${printable(error.message, 500)}`)
    : error;
}

/** What is printed of a UserError. */
export function errorLine(error: UserError): string {
  return `error: ${shownText(error.message).replaceAll("\n", "\\n")}`;
}

/** Run a script's body, until a signal ends it (signals.ts). A UserError becomes one line on stderr and exit code 1 (`DEBUG=1`
 * adds its stack, and its cause's). */
export async function main(body: () => Promise<void>): Promise<void> {
  guardConsole();
  endAtSignals();
  try {
    await body();
  } catch (error) {
    if (error instanceof UserError) {
      console.error(process.env.DEBUG ? inspect(error) : errorLine(error));
      process.exitCode = 1;
      return;
    }
    if (error instanceof Error && error.stack) error.stack = shownText(error.stack); // Node prints it as it is
    throw error;
  }
}
