// Kills tools/export.ts at random moments while it writes one of two models in place of the other, and looks each time: the
// folder holds one of the two whole, byte by byte, and the same command can be repeated.
//
//   npx tsx tests/kill_export.ts --kills=50
//
// Each format in turn, and with another file in the folder, where files have to move one by one. A quarter of the kills
// falls anywhere, the others into the writing. The suite kills a few times (kill_export.test.ts).

import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { setImmediate, setTimeout } from "node:timers/promises";

import { configure } from "../configurator.ts";
import { main } from "../lib/common/errors.ts";
import { isMain } from "../lib/common/main_module.ts";
import { keyOf, uniform } from "../lib/common/rng.ts";
import { exportModel, finishExport } from "../lib/formats/export_folder.ts";
import type { Meta } from "../lib/text/meta.ts";
import { saveCheckpoint } from "../lib/training/checkpoint.ts";
import type { GPT } from "../model.ts";
import { shakenGPT } from "./lib/formats/support.ts";
import { contentsOf, launch } from "./scripts.ts";

const FORMATS = ["hf", "nanogpt", "onnx"] as const;
const LONGEST = 120_000; // ms for an export
const NOTES = "notes.txt"; // not of the export

interface Exported {
  name: string;
  model: GPT;
  meta: Meta;
}

// two models of 3 MB whose exports have other files: with GPT-2's tokens there are more
const itos = [..."abcdefghijk"];
const LETTERS: Exported = {
  name: "letters",
  model: shakenGPT({ n_layer: 4, n_embd: 128 }),
  meta: { kind: "char", vocab_size: 11, itos, stoi: Object.fromEntries(itos.map((c, i) => [c, i])) },
};
const GPT2: Exported = {
  name: "gpt2",
  model: shakenGPT({ vocab_size: 50_257, n_embd: 16, n_head: 2 }),
  meta: { kind: "gpt2", vocab_size: 50_257 },
};

/** How the kills fell: those into the writing, those after which another process had to finish, and exports that ended before. */
export interface Fallen {
  kills: number;
  writing: number;
  finished: number;
  ended: number;
}

/** Kill `kills` exports within a folder. An AssertionError tells what one has lost. */
export async function killExports(folder: string, kills: number, log: (line: string) => void = () => {}) {
  const fallen: Fallen = { kills: 0, writing: 0, finished: 0, ended: 0 };
  // 1) what an export of each model in each format is
  const wanted = new Map<string, Record<string, string>>();
  const writingTook = new Map<string, number>(); // ms
  for (const { name, model, meta } of [LETTERS, GPT2]) {
    const numbers = { iter_num: 7, best_val_loss: 1.5, optimizer_steps: 7, rng: { seed: 1, iteration: 7 } };
    const metadata = { model_args: { ...model.config }, config: {}, ...numbers, tokenizer: meta };
    await saveCheckpoint(join(folder, name), metadata, model.parameters);
    for (const format of FORMATS) {
      const to = join(folder, `${name}-${format}`);
      const began = performance.now();
      await exportModel(model, meta, { to, format, source: name });
      writingTook.set(`${name} ${format}`, performance.now() - began);
      wanted.set(`${name} ${format}`, filesIn(to));
    }
  }
  // 2) one after the other
  let last = 0; // ms that an export took, about
  const before = new Map<string, string>(); // place -> the model that is there
  for (let kill = 0; kill < kills; kill++) {
    const format = FORMATS[kill % FORMATS.length]!;
    const shared = Math.floor(kill / FORMATS.length) % 2 === 1; // with another file in it
    const place = `${shared ? "shared" : "own"}-${format}`;
    const [other, { name }] = before.get(place) === LETTERS.name ? [LETTERS, GPT2] : [GPT2, LETTERS];
    const to = join(folder, place);
    if (shared && !existsSync(to)) {
      mkdirSync(to);
      writeFileSync(join(to, NOTES), "mine");
    }
    if (kill >= 2 * FORMATS.length && !before.has(place)) {
      // the first kills may leave nothing: the others shall have something to lose
      await exportModel(other.model, other.meta, { to, format, source: other.name });
      before.set(place, other.name);
    }
    const args = [`--out_dir=${name}`, `--format=${format}`, `--to=${place}`, `--overwrite=${shared}`];
    const began = performance.now();
    const { child, ended } = launch("tools/export.ts", args, { cwd: folder, timeout: LONGEST });
    const over = ended.then(() => "ended" as const);
    // it writes from when its work folder is there
    const work = shared ? join(to, ".unfinished") : `${to}.unfinished`;
    const started = existsSync(work) ? undefined : writingOf(work, over);
    const random = uniform(keyOf("kill"), kill);
    if (kill % 4 !== 3 || last === 0) {
      await started;
      last ||= performance.now() - began;
      await setTimeout(1.5 * random * writingTook.get(`${name} ${format}`)!);
    } else await setTimeout(random * last);
    const writing = existsSync(work);
    child.kill("SIGKILL");
    const { signal, code, stderr } = await ended;
    assert.ok(signal === "SIGKILL" || code === 0, `export ended with ${code}: ${stderr}`);

    // 3) what is left
    fallen.kills++;
    if (code === 0) fallen.ended++;
    if (writing) fallen.writing++;
    const whole = (name: string | undefined) =>
      name !== undefined && same(filesIn(to), wanted.get(`${name} ${format}`)!);
    const old = before.get(place);
    if (!(old === undefined ? isEmpty(to) || whole(name) : whole(old) || whole(name))) {
      finishExport(to); // as the next export begins
      fallen.finished++;
    }
    const now = [name, old].find(whole);
    const left = () =>
      `${format}, kill ${kill} (${old} -> ${name}) left ${Object.keys(filesIn(to)).join(", ") || "nothing"}`;
    assert.ok(now !== undefined || (old === undefined && isEmpty(to)), left());
    assert.ok(!shared || existsSync(join(to, NOTES)), `${NOTES} is gone`);
    if (now !== undefined) before.set(place, now);
    log(
      `kill ${kill + 1} of ${kills}: ${place} ${code === 0 ? "had ended" : writing ? "was writing" : "was not writing"}, holds ${now ?? "nothing"}`,
    );
  }
  // 4) the same commands again, and nothing else is left
  const places = [...before.keys()];
  for (const place of places) {
    const [, format] = place.split("-");
    const name = before.get(place)!;
    const args = [`--out_dir=${name}`, `--format=${format}`, `--to=${place}`, "--overwrite=true"];
    const { code, stderr } = await launch("tools/export.ts", args, { cwd: folder, timeout: LONGEST }).ended;
    assert.equal(code, 0, stderr);
    assert.deepEqual(filesIn(join(folder, place)), wanted.get(`${name} ${format}`));
    assert.ok(!existsSync(join(folder, `${place}.unfinished`)));
  }
  return fallen;
}

async function writingOf(work: string, over: Promise<"ended">): Promise<void> {
  let ended = false;
  over.then(() => {
    ended = true;
  });
  while (!ended && !existsSync(work)) await setImmediate();
}

/** The files of an export by name, with the checksums of their bytes. */
function filesIn(to: string): Record<string, string> {
  if (!existsSync(to)) return {};
  const files = Object.entries(contentsOf(to)).map(([path, sum]) => [relative(to, path), sum] as const);
  return Object.fromEntries(files.filter(([name]) => name !== NOTES && !name.startsWith(".unfinished")));
}

const isEmpty = (to: string) => Object.keys(filesIn(to)).length === 0;

function same(a: Record<string, string>, b: Record<string, string>): boolean {
  return JSON.stringify(Object.entries(a).sort()) === JSON.stringify(Object.entries(b).sort());
}

if (isMain(import.meta.url)) {
  await main(async () => {
    const { kills } = await configure(import.meta.url, { kills: 50 }, { usage: "Kill exports at random moments." });
    const folder = mkdtempSync(join(tmpdir(), "nanogpt-kill-"));
    try {
      const { writing, finished, ended } = await killExports(folder, kills, console.log);
      console.log(
        `${kills} kills lost nothing: ${writing} fell into the writing, ${ended} after the end; ` +
          `after ${finished} the next export had to put the files in place`,
      );
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
}
