// Runs scripts one after the other in this process, as the parent says. For runs that end by themselves, refused ones and
// short ones: scripts.ts has the other side.

import { runHere } from "../tools/fuzz/run_here.ts";

export interface Order {
  script: string; // such as "train.ts"
  args: string[];
  cwd: string;
}

// each run adds its own: for signals, and for a closed pipe
for (const emitter of [process, process.stdout, process.stderr]) emitter.setMaxListeners(0);
process.on("message", async ({ script, args, cwd }: Order) => process.send!(await runHere(script, args, cwd)));
process.on("disconnect", () => process.exit());
