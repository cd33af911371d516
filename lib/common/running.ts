// Is a process running?

import { hasCode } from "./errors.ts";

/** Is there a process with this id, of this or another user? A zombie counts, too. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0); // signal 0 only checks
  } catch (error) {
    if (hasCode(error, "ESRCH")) return false;
    if (!hasCode(error, "EPERM")) throw error; // another user's
  }
  return true;
}
