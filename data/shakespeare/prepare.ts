// Shakespeare in GPT-2's tokens: writes train.bin, val.bin and meta.json beside this file (or into --out).
//   npx tsx data/shakespeare/prepare.ts
//   npx tsx data/shakespeare/prepare.ts --input=my.txt --out=data/mine
// The text is --input, else an input.txt, else it is downloaded; see readme.md for what stands in where it can't be.
// Leaves out tokens of single characters: data/shakespeare_char has them.

import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { runScript } from "../../configurator.ts";
import { READING } from "../../lib/text/documents.ts";
import { ownTexts } from "../../lib/text/own_texts.ts";
import { prepareTexts } from "../../lib/text/prepare_texts.ts";
import { MOBY_DICK, TINY_SHAKESPEARE } from "../../lib/text/tiny_shakespeare.ts";
import { describe } from "../../lib/text/write_dataset.ts";

const here = dirname(fileURLToPath(import.meta.url));

export const defaults = {
  input: [] as string[], // .txt, .md, .jsonl, .json, .csv and .parquet files of your own, and folders of them
  ...READING, // how documents are found in them
  out: "", // the folder to write into; this one if empty
};

/** Write the dataset into config.out. @throws UserError for a text that can't be read */
export async function run(config: Readonly<typeof defaults>): Promise<void> {
  const saved = [here, join(here, "..", "shakespeare_char")].map((folder) => join(folder, "input.txt"));
  const texts = await ownTexts(config, {
    saved: saved.find((path) => existsSync(path)) ?? join(here, "input.txt"), // a second run needs no network
    original: TINY_SHAKESPEARE,
    standIn: MOBY_DICK,
  });
  const meta = await prepareTexts(texts, "gpt2", config.out || here);
  console.log(describe(meta)); // tinyshakespeare: train 301,966, val 36,059
}

await runScript(import.meta.url, defaults, run);
