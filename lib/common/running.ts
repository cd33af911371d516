// Whether a process is there.

import { hasCode } from "./errors.ts";

/** Is there a process of this id, this user's or another's? A zombie counts, too. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0); // asks, does nothing
  } catch (error) {
    if (hasCode(error, "ESRCH")) return false;
    if (!hasCode(error, "EPERM")) throw error; // another user's
  }
  return true;
}
