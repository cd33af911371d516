// Shakespeare in GPT-2's tokens: writes train.bin, val.bin and meta.json beside this file (or into --out).
//   npx tsx data/shakespeare/prepare.ts
//   npx tsx data/shakespeare/prepare.ts --input=my.txt --out=data/mine
// The text is --input, else an input.txt, else it is downloaded; see readme.md for what stands in where it can't be.
// Leaves out tokens of single characters: data/shakespeare_char has them.

import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { configure } from "../../configurator.ts";
import { main } from "../../engine/errors.ts";
import { prepareBytePairs } from "../byte_pairs.ts";
import { readOrFetch } from "../fetch_text.ts";
import { MOBY_DICK, TINY_SHAKESPEARE } from "../tiny_shakespeare.ts";
import { describe } from "../write_dataset.ts";

const here = dirname(fileURLToPath(import.meta.url));

const defaults = {
  input: "", // a text file of your own, in UTF-8
  keep_crlf: false, // leave line ends \r\n and \r as they are; else they become \n, as in nanoGPT
  out: "", // the folder to write into; this one if empty
};

await main(async () => {
  const config = await configure(import.meta.url, defaults);
  const saved = [here, join(here, "..", "shakespeare_char")].map((folder) => join(folder, "input.txt"));
  const { text, source } = await readOrFetch({
    input: config.input,
    saved: saved.find((path) => existsSync(path)) ?? join(here, "input.txt"), // a second run needs no network
    original: TINY_SHAKESPEARE,
    standIn: MOBY_DICK,
    keep_crlf: config.keep_crlf,
  });
  const meta = await prepareBytePairs({ text, source, directory: config.out || here });
  console.log(describe(meta)); // tinyshakespeare: train 301,966, val 36,059
});
