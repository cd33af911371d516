// Users' mistakes, in one line. Scripts run inside `main`, which turns a UserError into that line and exit code 1; any other
// error is a bug of ours and keeps its stack.

import { inspect } from "node:util";

import { guardConsole } from "./console.ts";
import { printable, shownText } from "./printable.ts";
import { endAtSignals } from "./signals.ts";

/**
 * Codes that callers may branch on: "diverged", a loss or gradient is NaN or infinite, so the model can't be trained with these
 * settings; "in_use", another process is using a folder (lock.ts); "invalid" for everything else.
 */
export type ErrorCode = "invalid" | "diverged" | "in_use";

/** A user's mistake: the message says what is wrong, where, and what to do, in one line. No code depends on its wording. */
export class UserError extends Error {
  override name = "UserError";
  readonly code: ErrorCode;

  constructor(message: string, { code = "invalid", cause }: { code?: ErrorCode; cause?: unknown } = {}) {
    super(message, cause === undefined ? {} : { cause });
    this.code = code;
  }
}

/** Is it, or its cause, a divergence? */
export function hasDiverged(error: unknown): boolean {
  const diverged = (what: unknown) => what instanceof UserError && what.code === "diverged";
  return diverged(error) || (error instanceof Error && diverged(error.cause));
}

/** Is `error` a Node system error with this code, such as "ENOENT"? */
export function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}

/** A fault of the system (no permission, no space, ...) as a one-line UserError; any other error as it is. */
export function explain(error: unknown, what: string): unknown {
  return error instanceof Error && "syscall" in error
    ? new UserError(`${what}: ${printable(error.message, 500)}`)
    : error;
}

/** Why a request got no answer: fetch's own message is only "fetch failed", and the rest is in its cause. */
export function networkReason(error: unknown): string {
  if (error instanceof Error && error.name === "TimeoutError") return "nothing in time";
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  if (!(cause instanceof Error)) return String(cause);
  return "code" in cause && typeof cause.code === "string" ? cause.code : cause.message;
}

/** The printed form of a UserError. */
export function errorLine(error: UserError): string {
  return `error: ${shownText(error.message).replaceAll("\n", "\\n")}`;
}

/** Run a script's body; a signal ends it early (signals.ts). A UserError becomes one line on stderr and exit code 1 (`DEBUG=1`
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
