// Experiments: runs of train.ts that differ in some settings and the seed, executed one after the other (or several at a time), compared
// and reported.
//
//   npx tsx tools/experiment.ts run config/experiments/heads.ts
//   npx tsx tools/experiment.ts list
//   npx tsx tools/experiment.ts compare heads/n_head=1 heads/n_head=4 out-mine
//   npx tsx tools/experiment.ts report heads
//
// The words come first, then the flags.

import { configure } from "../configurator.ts";
import { main, UserError } from "../lib/common/errors.ts";
import { alignTable } from "../lib/common/format.ts";
import { isMain } from "../lib/common/main_module.ts";
import { didYouMean } from "../lib/common/nearest.ts";
import { commandOf } from "../lib/common/scripts.ts";
import { helpAsked, screenOf, wrap } from "../lib/settings/help.ts";
import { type Comparison, compareExperiments, comparisonTable, statisticOf } from "./experiment/compare.ts";
import { ExperimentConfig } from "./experiment/experiment_config.ts";
import { formatMetric } from "./experiment/format.ts";
import { EXPERIMENTS, findExperiments, folderOf, loadExperiment, loadGroups } from "./experiment/load.ts";
import { runExperiment } from "./experiment/runner.ts";

export const defaults = {
  // run
  out: "", // the experiment's folder; out-experiments/<its name> if empty
  jobs: 0, // runs at a time, sharing the cores; 0 for the experiment's own
  // compare, report
  metric: "", // the metric to compare by; if empty the experiment's own, else val/loss
  // report
  to: "", // a .md file (its pictures beside it) or a .html file; if empty both, in the experiment's folder
};

const COMMANDS: Record<string, { words: string; usage: string; flags: (keyof typeof defaults)[]; run: Command }> = {
  run: {
    words: "FILE",
    usage:
      "Make the runs of an experiment, such as config/experiments/heads.ts; the same command continues where it stopped.",
    flags: ["out", "jobs"],
    run: runCommand,
  },
  list: {
    words: "[FOLDER ...]",
    usage: `The experiments in ${EXPERIMENTS}/, or in other folders, and their progress.`,
    flags: [],
    run: listCommand,
  },
  compare: {
    words: "A B ...",
    usage: "Compare experiments, trials (heads/n_head=2) or folders of runs: mean and spread over the seeds.",
    flags: ["metric"],
    run: compareCommand,
  },
  report: {
    words: "EXPERIMENT",
    usage: "Write an experiment's report as Markdown and as a page of HTML.",
    flags: ["metric", "to"],
    run: reportCommand,
  },
};
type Command = (words: string[], config: Readonly<typeof defaults>) => Promise<void>;

/**
 * Run one command.
 * @param argv its name, its words, then flags
 * @throws UserError for an unknown command, or what the command refuses
 */
export async function run([name = "", ...rest]: readonly string[]): Promise<void> {
  if (name === "" || helpAsked([name])) return help();
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (!command) {
    const near = didYouMean(name, Object.keys(COMMANDS)) ?? `there are: ${Object.keys(COMMANDS).join(", ")}`;
    throw new UserError(`no command ${JSON.stringify(name)}; ${near}`);
  }
  const first = rest.findIndex((word) => word.startsWith("-"));
  const words = first < 0 ? rest : rest.slice(0, first);
  const argv = first < 0 ? [] : rest.slice(first);
  const config = await configure(
    import.meta.url,
    Object.fromEntries(command.flags.map((key) => [key, defaults[key]])),
    {
      usage: command.usage,
      command: `${name} ${command.words}`,
      argv,
    },
  );
  await command.run(words, { ...defaults, ...config });
}

function help(): void {
  console.log("usage: npx tsx tools/experiment.ts COMMAND ... [--key=value ...]");
  const { columns } = screenOf();
  for (const [name, { words, usage }] of Object.entries(COMMANDS)) {
    console.log(`\n  ${name} ${words}\n${wrap(`    ${usage}`, 4, columns)}`);
  }
  console.log("\nEach command has its own --help.");
}

function theOnly(words: string[], what: string): string {
  if (words.length !== 1) throw new UserError(`give one ${what}, got ${words.length === 0 ? "none" : words.join(" ")}`);
  return words[0]!;
}

async function runCommand(words: string[], { out, jobs }: Readonly<typeof defaults>): Promise<void> {
  const file = theOnly(words, "file of an experiment, such as config/experiments/heads.ts");
  if (!Number.isInteger(jobs) || jobs < 0)
    throw new UserError(`jobs must be an integer of at least 0, got ${jobs} (--jobs)`);
  const experiment = await ExperimentConfig.load(file);
  for (const line of await experiment.renames()) console.log(`${line} (${file})`);
  const folder = out || `${EXPERIMENTS}/${experiment.settings.name}`;
  const outcome = await runExperiment(experiment, { out: folder, ...(jobs > 0 ? { jobs } : {}) });
  const { finished, failed, left, interrupted } = outcome;
  if (interrupted) {
    const again = commandOf("tools/experiment.ts", process.argv.slice(2));
    console.log(`stopped with ${finished} runs finished and ${left} left; continue with: ${again}`);
    process.exitCode = interrupted === "SIGINT" ? 130 : 143;
    return;
  }
  if (failed.length > 0) {
    for (const { label, error } of failed) console.error(`failed: ${label}: ${error}`);
    console.error(`${failed.length} of ${finished + failed.length} runs failed; the same command tries them again`);
    process.exitCode = 1;
  }
  if (finished > 0) printComparison(compareExperiments(loadExperiment(folder).groups, experiment.settings));
  console.log(`report it with: npx tsx tools/experiment.ts report ${folder}`);
}

async function listCommand(words: string[]): Promise<void> {
  const roots = words.length > 0 ? words.map(folderOf) : [EXPERIMENTS];
  const folders = roots.flatMap(findExperiments);
  if (folders.length === 0) {
    console.log(
      `no experiments in ${roots.join(", ")}; make one with: npx tsx tools/experiment.ts run config/experiments/heads.ts`,
    );
    return;
  }
  const rows = folders.map((folder) => {
    const { experiment, runs, groups } = loadExperiment(folder);
    const { metric, goal } = experiment.settings;
    const count = (state: string) => String(runs.filter((run) => run.state === state).length);
    const has = groups.some((group) => statisticOf(group.runs, metric).n > 0);
    const best = has ? compareExperiments(groups, { metric, goal }).rows.find((row) => row.best) : undefined;
    const value = best ? `${metric} ${formatMetric(metric, best.statistics[metric]!.mean)} with ${best.name}` : "-";
    return [folder, String(runs.length), count("finished"), count("begun"), count("failed"), count("waiting"), value];
  });
  console.log(alignTable([["experiment", "runs", "finished", "begun", "failed", "waiting", "best so far"], ...rows]));
}

async function compareCommand(words: string[], { metric }: Readonly<typeof defaults>): Promise<void> {
  if (words.length === 0) throw new UserError("compare what? give experiments, trials or folders of runs");
  const folders = words.map(folderOf);
  const found = folders.map((folder) => loadGroups(folder));
  // runs of two folders may be called the same
  const names = found.flat().map(({ name }) => name);
  const groups = found.flatMap((groups, i) =>
    groups.map((group) =>
      names.filter((name) => name === group.name).length > 1
        ? { ...group, name: `${folders[i]}: ${group.name}` }
        : group,
    ),
  );
  printComparison(compareExperiments(groups, metric ? { metric } : {}), true);
}

function printComparison(comparison: Comparison, names?: boolean): void {
  const [heading = [], ...body] = comparisonTable(comparison, names);
  const marks = comparison.rows.map((row) => (row.best ? "*" : ""));
  console.log(alignTable([["", ...heading], ...body.map((row, i) => [marks[i]!, ...row])]));
  console.log(`${marks.includes("*") ? "* is the best; " : ""}± is the standard deviation over the seeds`);
  for (const note of comparison.notes) console.log(note);
}

async function reportCommand(words: string[], { metric, to }: Readonly<typeof defaults>): Promise<void> {
  const folder = folderOf(theOnly(words, "experiment"));
  const { writeReports } = await import("./experiment/report.ts"); // only a report draws pictures
  const written = writeReports(loadExperiment(folder), { to, ...(metric ? { metric } : {}) });
  console.log(`wrote ${written.join(", ")}`);
}

if (isMain(import.meta.url)) await main(() => run(process.argv.slice(2)));
