// kill -9 at random moments of prepare scripts that replace one another's dataset in one folder. After each kill the folder
// must hold a whole dataset, the one from before or the new one, and in the end nothing else.
//
//   npx tsx tests/kill_prepare.ts --kills=100 --seed=7

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, watch, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { configure } from "../configurator.ts";
import { main } from "../lib/common/errors.ts";
import { isMain } from "../lib/common/main_module.ts";
import { keyOf, uniform } from "../lib/common/rng.ts";
import { datasetFile, READY } from "../lib/text/dataset.ts";
import { openDataset } from "../lib/text/open_dataset.ts";
import { flags, launch, succeed } from "./scripts.ts";

const FILES = ["meta.json", "train.bin", "val.bin"] as const;

/** What the kills found. */
export interface Found {
  kills: number;
  old: number; // the dataset from before counted
  replaced: number; // the new one did
  between: number; // of these: not all of its files had their names
  strays: number; // something else was in the folder
}

/** Kill `kills` scripts in `folder`, which is made for it. An AssertionError tells of a dataset that isn't whole. */
export async function killPrepare(folder: string, kills: number, seed: number): Promise<Found> {
  // 1) three datasets, each made of its own text by its own script, and what their files are when nobody kills
  mkdirSync(folder);
  const input = (name: string, letters: string, characters: number) => {
    const path = join(folder, name);
    let text = "";
    for (let i = 0; text.length < characters; i++) {
      text += letters[Math.floor(uniform(keyOf("kill_prepare", name), i) * letters.length)];
    }
    writeFileSync(path, text);
    return path;
  };
  const commands = [
    ["data/shakespeare_char/prepare.ts", { input: input("a.txt", "etaoin shrdlu\n", 1_000_000) }],
    ["data/shakespeare_char/prepare.ts", { input: input("b.txt", "абвгд еж\n", 700_000) }],
    [
      "data/openwebtext/prepare.ts",
      { input: documents(input("c.txt", "etaoin \n", 400_000)), val_fraction: 0.1, workers: 1 },
    ],
  ] as const;
  const sums: string[] = [];
  for (const [i, [script, settings]] of commands.entries()) {
    const out = join(folder, `calm-${i}`);
    await succeed(script, flags({ ...settings, out }));
    sums.push(sumOf(out));
  }

  // 2) the kills: half of them in the first moments of writing, the others anywhere
  const out = join(folder, "killed");
  await succeed(commands[0][0], flags({ ...commands[0][1], out }));
  let current = 0;
  const found: Found = { kills: 0, old: 0, replaced: 0, between: 0, strays: 0 };
  for (let round = 0; found.kills < kills; round++) {
    const random = (what: string) => uniform(keyOf(seed, what), round);
    const next = (current + 1 + Math.floor(2 * random("dataset"))) % commands.length;
    const [script, settings] = commands[next]!;
    const watcher = watch(out);
    const changed = new Promise((resolve) => watcher.once("change", resolve));
    const { child, ended } = launch(script, flags({ ...settings, out }));
    await Promise.race([changed, ended]);
    await new Promise((resolve) => setTimeout(resolve, (round % 2 === 0 ? 60 : 600) * random("moment")));
    child.kill("SIGKILL");
    const { code, signal, stderr } = await ended;
    watcher.close();
    assert.ok(signal === "SIGKILL" || code === 0, `round ${round}: ${stderr}`);

    const sum = sumOf(out);
    assert.ok(
      [sums[current], sums[next]].includes(sum),
      `round ${round}: a mix of two datasets in ${readdirSync(out)}`,
    );
    for (const file of Object.values(openDataset(out).splits)) file.close();
    if (signal === "SIGKILL") {
      found.kills++;
      found[sum === sums[next] ? "replaced" : "old"]++;
      if (existsSync(join(out, READY))) found.between++;
      if (readdirSync(out).length > FILES.length) found.strays++;
    }
    current = sums.indexOf(sum);
  }

  // 3) whoever comes next leaves nothing but a dataset
  await succeed(commands[1][0], flags({ ...commands[1][1], out }));
  assert.equal(sumOf(out), sums[1]);
  assert.deepEqual(readdirSync(out).sort(), FILES);
  return found;
}

/** A checksum of the dataset that counts. */
function sumOf(folder: string): string {
  const hash = createHash("sha256");
  for (const name of FILES) hash.update(readFileSync(datasetFile(folder, name))).update(name);
  return hash.digest("hex");
}

/** The lines of a text as documents. */
function documents(path: string): string {
  const lines = readFileSync(path, "utf8").split("\n");
  writeFileSync(`${path}.jsonl`, lines.map((text) => JSON.stringify({ text })).join("\n"));
  return `${path}.jsonl`;
}

const defaults = {
  kills: 100,
  seed: 1, // chooses the moments
};

if (isMain(import.meta.url)) {
  await main(async () => {
    const config = await configure(import.meta.url, defaults, {
      usage: "Kill prepare scripts, and look at what is left.",
    });
    const folder = mkdtempSync(join(tmpdir(), "nanogpt-kills-"));
    try {
      const found = await killPrepare(join(folder, "kills"), config.kills, config.seed);
      console.log(`${found.kills} kills, and nothing was lost: ${JSON.stringify(found)}`);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
}
