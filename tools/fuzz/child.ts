// The process in which cases are run: it may hang or crash, which its parent notices.

import { join } from "node:path";

import { type Case, runCase } from "./case.ts";

const [, , folder = ""] = process.argv;
process.setMaxListeners(0);
process.stdout.setMaxListeners(0);

process.on("message", async (about: Case) => {
  process.send!(await runCase(about, join(folder, "whole"), join(folder, "case")));
});
process.on("disconnect", () => process.exit());
process.send!("ready");
