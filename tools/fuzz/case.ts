// One case: a sample of a kind with one file damaged, and its reader. Everything follows from the seed and the number.

import { cpSync, existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";

import { Chance } from "./chance.ts";
import { faultOf } from "./judge.ts";
import { type Kind, kinds } from "./kinds.ts";
import { damage } from "./mutate.ts";

const MOST_MEMORY = 700; // MB that reading small damaged files may take

export interface Case {
  seed: number;
  index: number; // from 0
  kind: string;
  whole?: boolean; // undamaged
}

export interface Outcome extends Case {
  damage: string; // in words
  refused?: boolean; // it ended with a one-line error
  fault?: string; // what was wrong with its end
  printed?: string; // if something is wrong
}

/** The kinds alternate. */
export function caseOf(seed: number, index: number, names: readonly string[]): Case {
  return { seed, index, kind: names[index % names.length]! };
}

/**
 * Make a case's files.
 * @param wholes the folder of intact samples
 * @param folder to create; existing contents are removed
 */
export async function makeCase({ seed, index, kind, whole: isWhole }: Case, wholes: string, folder: string) {
  const { make, files } = kindOf(kind);
  const whole = join(wholes, kind);
  if (!existsSync(whole)) {
    const begun = `${whole}.${process.pid}`;
    mkdirSync(begun, { recursive: true });
    await make(begun);
    renameSync(begun, whole);
  }
  rmSync(folder, { recursive: true, force: true });
  cpSync(whole, folder, { recursive: true });
  const chance = new Chance(seed, index, kind);
  const names = Object.keys(files);
  const done: string[] = [];
  for (let i = 0; !isWhole && i < (chance.is(0.1) ? 2 : 1) && names.length > 0; i++) {
    const name = chance.pick(names);
    if (done.some((other) => other.startsWith(`${name}:`))) continue;
    done.push(`${name}: ${damage(join(folder, name), files[name]!, chance)}`);
  }
  return { chance, damage: done.join("; ") };
}

/** Make a case, read it, and judge. */
export async function runCase(about: Case, wholes: string, folder: string): Promise<Outcome> {
  const { chance, damage } = await makeCase(about, wholes, folder);
  const before = process.resourceUsage().maxRSS; // KB
  const ended = await kindOf(about.kind).read(folder, chance);
  const more = (process.resourceUsage().maxRSS - before) / 1024;
  const fault = faultOf(ended) ?? (more > MOST_MEMORY ? `${more.toFixed(0)} MB of memory` : undefined);
  const refused = ended.code !== 0;
  return {
    ...about,
    damage,
    refused,
    ...((fault || refused) && { printed: ended.stderr.slice(0, 4000) }),
    ...(fault && { fault }),
  };
}

function kindOf(name: string): Kind {
  const kind = kinds[name];
  if (!kind) throw new Error(`internal: no kind ${name}`);
  return kind;
}
