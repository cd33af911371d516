// Checks this machine for training: Node, engine, processor, memory, disk, optional programs, datasets; with advice for what is missing.
// Exit code 0 if training can run, else 1.
//
//   npm run doctor
//   npx tsx tools/doctor.ts --out_dir=out-mine --json=true
//   npx tsx tools/doctor.ts config/train_shakespeare_char.ts --wandb_log=true     # has this run everything it needs?
//
// Changes nothing. Left out: training speed (bench.ts).

import { runScript } from "../configurator.ts";
import { canTrain, describeFindings, diagnose } from "./doctor/diagnose.ts";
import { gatherFacts } from "./doctor/facts.ts";

export const defaults = {
  out_dir: "out", // the folder of runs: its disk and permissions are checked
  json: false, // the findings and the facts behind them, as JSON
  // settings of a run, from its config file or flags: what it needs and isn't here is missing, everything else optional
  dataset: "", // a folder under data/, or a path; empty for any
  wandb_log: false,
  mlflow_uri: "",
  tensorboard: false,
  compile: true,
};

/** Print the findings; exit code 1 if training can't work. */
export async function run(config: Readonly<typeof defaults>): Promise<void> {
  const { dataset, wandb_log: wandb, tensorboard, compile } = config;
  const facts = await gatherFacts(config.out_dir, dataset);
  const findings = diagnose(facts, { dataset, wandb, mlflow: config.mlflow_uri !== "", tensorboard, eager: !compile });
  const can_train = canTrain(findings);
  console.log(config.json ? JSON.stringify({ can_train, findings, facts }, null, 1) : describeFindings(findings));
  if (!can_train) process.exitCode = 1;
}

await runScript(import.meta.url, defaults, run, {
  usage: "Check this machine for training.",
  log: console.error,
});
