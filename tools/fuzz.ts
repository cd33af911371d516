// Fuzzer: damages every kind of file that the scripts read, and flags, variables and configs, and checks that each run ends well or with one
// line: no stack, no hang, no crash, no unbounded memory.
//
//   npx tsx tools/fuzz.ts --seconds=600
//   npx tsx tools/fuzz.ts --seed=1 --from=4711 --cases=1   # repeats a case, as a finding shows it
//
// A case is a function of the seed and its number. Findings are kept in a folder, each with its files, beside those of
// earlier runs. Left out: servers' answers (tests/tools), and TypeScript configs, which may do anything.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runScript } from "../configurator.ts";
import { UserError } from "../lib/common/errors.ts";
import { startProgress } from "../lib/common/progress.ts";
import { commandOf } from "../lib/common/scripts.ts";
import { watcher } from "./fuzz/campaign.ts";
import { caseOf, makeCase, type Outcome } from "./fuzz/case.ts";
import { kinds } from "./fuzz/kinds.ts";

export const defaults = {
  seconds: 60, // how long; 0 for as many cases as --cases says
  cases: 0, // how many; 0 for as long as --seconds says
  seed: 1, // another one makes other cases
  from: 0, // the first case's number
  only: [] as string[], // kinds, separated by commas; all if empty
  hang: 60, // seconds after which a case counts as hanging
  keep: "out-fuzz", // folder of the findings
};

/** Damage files and read them, case by case; exit code 1 if a reader fails badly. */
export async function run(config: Readonly<typeof defaults>): Promise<void> {
  const { seconds, cases, seed, from, hang } = config;
  const names = config.only.length > 0 ? config.only : Object.keys(kinds);
  const unknown = names.find((name) => !Object.hasOwn(kinds, name));
  if (unknown !== undefined) throw new UserError(`no kind ${unknown}; there are ${Object.keys(kinds).join(", ")}`);

  const found = new Map<string, Outcome[]>();
  const folderOf = ({ index, kind }: Outcome) => join(config.keep, `${seed}-${index}-${kind}`);
  const watched = watcher(hang);
  const began = performance.now();
  const elapsed = () => (performance.now() - began) / 1000;
  const bar = startProgress(cases || seconds, 0);
  let index = from;
  let stopped = false;
  process.once("SIGINT", () => {
    stopped = true;
  });
  try {
    for (; !stopped && (cases === 0 || index < from + cases) && (cases > 0 || elapsed() < seconds); index++) {
      const outcome = await watched.run(caseOf(seed, index, names));
      bar.update(cases > 0 ? index - from : Math.floor(elapsed()), `${index - from + 1} cases, ${found.size} findings`);
      if (outcome.fault === undefined) continue;
      const same = found.get(alike(outcome)) ?? [];
      found.set(alike(outcome), [...same, outcome]);
      if (same.length > 0) continue;
      const folder = folderOf(outcome);
      mkdirSync(config.keep, { recursive: true });
      await makeCase(outcome, watched.wholes, folder);
      writeFileSync(`${folder}.txt`, `${outcome.damage}\n\n${outcome.fault}\n\n${outcome.printed ?? ""}`);
      bar.log(`${outcome.kind}: ${outcome.fault} (${outcome.damage.slice(0, 200)})`);
    }
  } finally {
    bar.stop();
    watched.stop();
  }
  const only = config.only.length > 0 ? [`--only=${names.join(",")}`] : [];
  for (const outcomes of found.values()) {
    const first = outcomes[0]!;
    const { index, kind, fault } = first;
    const again = commandOf("tools/fuzz.ts", [`--seed=${seed}`, `--from=${index}`, "--cases=1", ...only]);
    console.log(`${outcomes.length} x ${kind}: ${fault}; ${folderOf(first)}; again: ${again}`);
  }
  const count = index - from;
  console.log(
    `${count} cases of ${names.length} kinds in ${elapsed().toFixed(0)} s, seed ${seed}: ${found.size} findings`,
  );
  if (found.size > 0) process.exitCode = 1;
}

/** A signature, equal for findings with the same cause as far as their output shows: without numbers and quoted texts. */
function alike({ kind, fault = "", printed = "" }: Outcome): string {
  const place =
    /^ {4}at .*$/m.exec(printed)?.[0] ?? printed.split("\n").find((line) => line.startsWith("error: ")) ?? "";
  return [kind, fault, place].join(" ").replaceAll(/"[^"]*"|\d+/g, "");
}

await runScript(import.meta.url, defaults, run, { usage: "Fuzz the readers of all files and settings." });
