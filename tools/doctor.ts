// Tells what this machine has for training: Node, engine, processor, memory, disk, optional programs, datasets; and what to
// do about what is missing. Exit code 0 where training can run, else 1.
//
//   npm run doctor
//   npx tsx tools/doctor.ts --out_dir=out-mine --json=true
//   npx tsx tools/doctor.ts config/train_shakespeare_char.ts --wandb_log=true     # is all there that this run needs?
//
// Changes nothing. Leaves out how fast training is: bench.ts.

import { runScript } from "../configurator.ts";
import { canTrain, describeFindings, diagnose } from "./doctor/diagnose.ts";
import { gatherFacts } from "./doctor/facts.ts";

export const defaults = {
  out_dir: "out", // where runs are to be written: its disk and the right to write there are looked at
  json: false, // the findings and the facts behind them, as JSON
  // what a run is to use, from its config file or flags: what that needs and isn't here is missing, all else optional
  dataset: "", // a folder under data/, or a path; empty for any
  wandb_log: false,
  mlflow_uri: "",
  tensorboard: false,
  compile: true,
};

/** Print what is here to train with; exit code 1 where training can't work. */
export async function run(config: Readonly<typeof defaults>): Promise<void> {
  const { dataset, wandb_log: wandb, tensorboard, compile } = config;
  const facts = await gatherFacts(config.out_dir, dataset);
  const findings = diagnose(facts, { dataset, wandb, mlflow: config.mlflow_uri !== "", tensorboard, eager: !compile });
  const can_train = canTrain(findings);
  console.log(config.json ? JSON.stringify({ can_train, findings, facts }, null, 1) : describeFindings(findings));
  if (!can_train) process.exitCode = 1;
}

await runScript(import.meta.url, defaults, run, {
  usage: "Look what is here to train with.",
  log: console.error,
});
