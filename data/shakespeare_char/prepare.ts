// Shakespeare, a character a token: writes train.bin, val.bin and meta.json beside this file (or into --out).
//   npx tsx data/shakespeare_char/prepare.ts
//   npx tsx data/shakespeare_char/prepare.ts --input=my.txt --out=data/mine
// The text is --input, else input.txt beside this file, else it is downloaded; see readme.md for what stands in where
// it can't be. Leaves out GPT-2's tokens.

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
  const texts = await ownTexts(config, {
    saved: join(here, "input.txt"), // a second run needs no network
    original: TINY_SHAKESPEARE,
    standIn: MOBY_DICK,
  });
  const meta = await prepareTexts(texts, "char", config.out || here);
  console.log(describe(meta)); // tinyshakespeare: vocab_size 65, train 1,003,854, val 111,540
}

await runScript(import.meta.url, defaults, run);
