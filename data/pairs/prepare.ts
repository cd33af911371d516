// Pairs of texts for --architecture=encoder_decoder: writes train.bin, val.bin and meta.json beside this file (or into --out).
//   npx tsx data/pairs/prepare.ts
//   npx tsx data/pairs/prepare.ts --input=pairs.tsv --length=16 --out=data/mine
// --input has a pair a line, "source<TAB>target". Without it the words of Shakespeare, to be written backwards.

import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { runScript } from "../../configurator.ts";
import { UserError } from "../../lib/common/errors.ts";
import { readOrFetch } from "../../lib/text/fetch_text.ts";
import { parsePairs, preparePairs, reversedWords } from "../../lib/text/sequence_pairs.ts";
import { MOBY_DICK, TINY_SHAKESPEARE } from "../../lib/text/tiny_shakespeare.ts";
import { describe } from "../../lib/text/write_dataset.ts";

const here = dirname(fileURLToPath(import.meta.url));

export const defaults = {
  input: "", // a file of your own, in UTF-8: a source, a tab and a target on each line
  length: 0, // characters of a source or target, with one for its end; longer pairs are left out. 0 for the longest's
  keep_crlf: false, // leave line ends \r\n and \r as they are; else they become \n, as in nanoGPT
  out: "", // the folder to write into; this one if empty
};

/** Write the dataset into config.out. @throws UserError for pairs that can't be read */
export async function run(config: Readonly<typeof defaults>): Promise<void> {
  const { input, length, keep_crlf } = config;
  if (!Number.isInteger(length) || length < 0 || length === 1) {
    throw new UserError(`length must be 0 or an integer of at least 2, got ${length}`);
  }
  const saved = join(here, "..", "shakespeare_char", "input.txt"); // if that dataset's script was here
  const text = await readOrFetch({ input, saved, original: TINY_SHAKESPEARE, standIn: MOBY_DICK, keep_crlf });
  const all = input ? parsePairs(text.text, input) : reversedWords(text.text);
  const { meta, left } = preparePairs(all, text, { directory: config.out || here, length });
  console.log(describe(meta));
  console.log(
    `pairs:      ${all.length - left} of 2 times ${meta.pairs!.length} tokens${left ? `; ${left} longer ones left out` : ""}`,
  );
  console.log(
    `train with: npx tsx train.ts config/train_pairs.ts${config.out ? ` --dataset=${config.out}` : ""} --block_size=${meta.pairs!.length}`,
  );
}

await runScript(import.meta.url, defaults, run, { usage: "Make a dataset of pairs of texts." });
