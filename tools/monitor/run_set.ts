// The runs of the given folders, at each poll: a folder with a metrics.jsonl is a run; one without stands for the runs below it, such as an
// experiment's, and new ones are found meanwhile. Of many runs the newest are shown, of the others only the status is kept. Draws
// nothing.

import { existsSync, readdirSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { UserError } from "../../lib/common/errors.ts";
import { runName } from "../../lib/common/file_names.ts";
import { readJson, statOf } from "../../lib/common/read_file.ts";
import { z } from "../../lib/common/zod.ts";
import { METRICS_FILE } from "../../lib/monitor/metrics_file.ts";
import { FollowedRun, isLive, type Status } from "./run_status.ts";

const MOST_SHOWN = 8;

const LEVELS = 3; // below a folder: an experiment's runs are in <trial>/seed-<n>
const RESCAN = 1900; // ms between two searches; a page that asks once a second gets one every 2 s

/** A shown run. */
export interface ShownRun {
  folder: string; // identifies it
  label: string; // for people
  /** From 0, for its colour; fixed as long as it is shown. */
  place: number;
  run: FollowedRun;
}

interface Group {
  folder: string; // as given
  label: string;
  members: string[]; // folders of runs
  planned: number | undefined; // number of runs, from an experiment's file
}

interface Member {
  folder: string;
  label: string;
  group: number;
  run?: FollowedRun; // if it is shown or hasn't ended
  status: Status;
  stamp: string; // of its file at the last read
}

export class RunSet {
  /** The given folders, for a title. */
  readonly name: string;
  /** At most MOST_SHOWN, in the order of the given folders, the latest first. */
  shown: readonly ShownRun[] = [];
  readonly #groups: Group[];
  #members = new Map<string, Member>(); // by absolute path: each run once
  #scanned = Number.NEGATIVE_INFINITY; // ms since 1970

  /** @throws UserError if a folder is missing */
  constructor(folders: readonly string[]) {
    const names = folders.map(runName);
    this.#groups = folders.map((folder, i) => {
      if (!statOf(folder)?.isDirectory()) {
        throw new UserError(`no folder ${folder}; name the out_dir of a run: --out_dir=out`);
      }
      const alone = names.indexOf(names[i]!) === names.lastIndexOf(names[i]!);
      return { folder, label: alone ? names[i]! : folder, members: [], planned: undefined };
    });
    this.name = this.#groups.map(({ label }) => label).join(", ");
  }

  /** Read what was added, and now and then look for other runs. @returns is anything new? */
  poll(now = Date.now()): boolean {
    let changed = false;
    if (now - this.#scanned >= RESCAN) {
      this.#scanned = now;
      changed = this.#scan(now);
    }
    for (const member of this.#members.values()) {
      if (!member.run) continue;
      if (member.run.poll()) changed = true;
      member.status = member.run.status(now);
    }
    return this.#choose(now) || changed;
  }

  /** The status of the others. */
  get others(): Status[] {
    const shown = new Set(this.shown.map(({ folder }) => folder));
    return [...this.#members.values()].filter(({ folder }) => !shown.has(folder)).map(({ status }) => status);
  }

  /** A line for each experiment: "runs: 7 of 18 finished". */
  get progress(): string[] {
    return this.#groups.flatMap(({ label, members, planned }) => {
      // more of them: the experiment was another one before, so its own runs are unknown
      if (planned === undefined || members.length > planned) return [];
      const states = members.map((path) => this.#members.get(path)!.status.state);
      const finished = states.filter((state) => state === "finished" || state === "stopped").length;
      return [`${this.#groups.length > 1 ? label : "runs"}: ${finished} of ${planned} finished`];
    });
  }

  /** Find the present runs. @returns have they, or an experiment's size, changed? */
  #scan(now: number): boolean {
    const before = this.#members;
    const found = new Map<string, Member>();
    let changed = false;
    for (const [i, group] of this.#groups.entries()) {
      const below = existsSync(join(group.folder, METRICS_FILE)) ? [] : runsBelow(group.folder, LEVELS);
      const several = this.#groups.length > 1;
      const runs =
        below.length === 0
          ? [{ folder: group.folder, label: group.label }] // a run, or a folder waiting for one
          : below.map((path) => ({
              folder: join(group.folder, ...path),
              label: (several ? [group.label, ...path] : path).join("/"),
            }));
      const planned = plannedRuns(group.folder);
      if (planned !== group.planned) changed = true;
      group.planned = planned;
      group.members = runs.map(({ folder }) => resolve(folder));
      for (const { folder, label } of runs) {
        const path = resolve(folder);
        if (found.has(path)) continue;
        const known = before.get(path);
        const stamp = stampOf(folder);
        if (known?.label === label && (known.run || known.stamp === stamp)) found.set(path, { ...known, stamp });
        else found.set(path, { folder, label, group: i, stamp, ...look(folder, now) });
        if (known?.label !== label) changed = true;
      }
    }
    this.#members = found;
    return changed || [...before.keys()].some((path) => !found.has(path));
  }

  /** Show the newest. @returns have they changed? */
  #choose(now: number): boolean {
    const places = new Map(this.shown.map(({ folder, place }) => [folder, place]));
    // running ones on the screen stay, as the order of last lines changes all the time
    const rank = ({ folder, status }: Member) => (isLive(status) ? (places.has(folder) ? 2 : 1) : 0);
    const members = [...this.#members.values()].sort(
      (a, b) => rank(b) - rank(a) || b.status.time - a.status.time || (a.label < b.label ? -1 : 1),
    );
    for (const member of members.slice(MOST_SHOWN)) if (!isLive(member.status)) delete member.run;
    const chosen = members.slice(0, MOST_SHOWN);
    for (const member of chosen) {
      if (member.run) continue;
      member.run = new FollowedRun(member.folder);
      member.run.poll();
      member.status = member.run.status(now);
    }
    const begun = ({ run }: Member) => run!.history.start?.time ?? Number.POSITIVE_INFINITY;
    chosen.sort((a, b) => {
      if (a.group !== b.group) return a.group - b.group;
      return begun(a) === begun(b) ? (a.label < b.label ? -1 : 1) : begun(b) - begun(a);
    });
    const taken = new Set(chosen.map(({ folder }) => places.get(folder)));
    const free = Array.from({ length: MOST_SHOWN }, (_, place) => place).filter((place) => !taken.has(place));
    const before = this.shown;
    this.shown = chosen.map(({ folder, label, run }) => {
      return { folder, label, place: places.get(folder) ?? free.shift()!, run: run! };
    });
    return this.shown.length !== before.length || this.shown.some(({ run }, i) => run !== before[i]!.run);
  }
}

/** A run that isn't shown: its status; the run itself only if it may continue. */
function look(folder: string, now: number): Pick<Member, "run" | "status"> {
  const run = new FollowedRun(folder);
  run.poll();
  const status = run.status(now);
  return isLive(status) ? { run, status } : { status };
}

/** Folders of runs, each as the list of names in its path. Folders below a run belong to it. */
function runsBelow(folder: string, levels: number): string[][] {
  return foldersIn(folder).flatMap((name) => {
    const path = join(folder, name);
    if (existsSync(join(path, METRICS_FILE))) return [[name]];
    return levels > 1 ? runsBelow(path, levels - 1).map((rest) => [name, ...rest]) : [];
  });
}

/** Folders to search: no links, no hidden ones, no packages. None if the folder is gone or unreadable. */
function foldersIn(folder: string): string[] {
  try {
    const entries = readdirSync(folder, { withFileTypes: true });
    const folders = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
    return folders.filter((name) => name !== "node_modules" && !name.startsWith(".")).sort();
  } catch (error) {
    if (error instanceof Error && "syscall" in error) return [];
    throw error;
  }
}

/** Changes when the file does. */
function stampOf(folder: string): string {
  const path = join(folder, METRICS_FILE);
  const stats = existsSync(path) ? statSync(path, { throwIfNoEntry: false }) : undefined;
  return stats ? `${stats.size} ${stats.mtimeMs}` : "";
}

/** The part of tools/experiment's file with the number of runs. */
const Experiment = z.object({
  search: z.enum(["grid", "list", "random"]),
  axes: z.record(z.string(), z.unknown()),
  list: z.array(z.unknown()),
  trials: z.number(),
  seeds: z.array(z.unknown()),
});

/** Undefined if the folder has no experiment's file, or another program's. */
function plannedRuns(folder: string): number | undefined {
  let experiment: z.infer<typeof Experiment> | undefined;
  try {
    experiment = readJson(join(folder, "experiment.json"), Experiment, (why) => new UserError(why));
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
  }
  if (!experiment) return undefined;
  const { search, axes, list, trials, seeds } = experiment;
  const grid = Object.values(axes).reduce((n: number, values) => n * (Array.isArray(values) ? values.length : 0), 1);
  return seeds.length * { grid, list: list.length, random: trials }[search];
}
