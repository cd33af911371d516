// Runs scripts one after the other in this process, as the parent says. For runs that end by themselves before they set
// anything up, such as refused ones.

import { runHere } from "../tools/fuzz/run_here.ts";

export interface Order {
  script: string; // such as "train.ts"
  args: string[];
  cwd: string;
}

process.on("message", async ({ script, args, cwd }: Order) => process.send!(await runHere(script, args, cwd)));
process.on("disconnect", () => process.exit());
