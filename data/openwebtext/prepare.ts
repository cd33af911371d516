// Web pages by the million in GPT-2's tokens: writes train.bin, val.bin and meta.json beside this file (or into --out).
//   npx tsx data/openwebtext/prepare.ts
//   npx tsx data/openwebtext/prepare.ts --input=pages.jsonl,more.parquet,folder --out=data/mine
// Without --input, OpenWebText is downloaded. Memory does not grow with the input; a run that was killed continues when
// it is started again, and the files are the same, byte for byte, whatever happened and on any number of threads.
// Leaves out cleaning and shuffling the documents.

import { availableParallelism } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { runScript } from "../../configurator.ts";
import { UserError } from "../../lib/common/errors.ts";
import { startProgress } from "../../lib/common/progress.ts";
import { keyOf, uniform } from "../../lib/common/rng.ts";
import { addTally, type Piece, piecesOf, READING, type Reading } from "../../lib/text/documents.ts";
import { type InputFile, listFiles } from "../../lib/text/input_files.ts";
import { GPT2_META } from "../../lib/text/meta.ts";
import { describeTally, readingOf } from "../../lib/text/own_texts.ts";
import { PartialDataset, type Place } from "../../lib/text/partial_dataset.ts";
import type { Split } from "../../lib/text/replace.ts";
import { tokenizePieces } from "../../lib/text/tokenize_pool.ts";
import { downloadOpenWebText, REPOSITORY } from "./download.ts";

const here = dirname(fileURLToPath(import.meta.url));

export const defaults = {
  input: [] as string[], // .txt, .md, .jsonl, .json, .csv and .parquet files, and folders of them; OpenWebText if empty
  ...READING, // how documents are found in them
  out: "", // the folder to write into; this one if empty
  workers: 0, // threads; 0: one a core
  val_fraction: 0.0005, // the share of the documents that goes into val.bin
  seed: 2357, // chooses them
  restart: false, // throw away what an interrupted run has left
};

const SAVE_INTERVAL = 500; // ms: what a kill may cost

/** Write the dataset into config.out. @throws UserError for documents that can't be read */
export async function run(config: Readonly<typeof defaults>): Promise<void> {
  const { seed, val_fraction } = config;
  const out = config.out || here;

  // 1) what to read, and where an earlier run has got to
  const paths = config.input.length > 0 ? config.input : await downloadOpenWebText(join(here, "download"));
  const files = listFiles(paths, console.log);
  const reading = readingOf(config);
  const dataset = new PartialDataset(out, { files, seed, val_fraction, reading }, config.restart);
  const place: Place = {
    file: dataset.state.file,
    at: dataset.state.at,
    documents: dataset.state.documents,
    val_documents: dataset.state.val_documents,
    tally: { ...dataset.state.tally },
  };
  const before = tokens();
  if (dataset.resumed) {
    console.log(
      `resuming after ${count(place.documents)} documents, ${count(before)} tokens; --restart=true starts over`,
    );
  }

  // 2) tokens, in the order of the documents
  const validation = keyOf(seed, "validation documents");
  const splitOf = (document: number): Split => (uniform(validation, document) < val_fraction ? "val" : "train");
  const megabytes = (bytes: number) => Math.round(bytes / 1e6);
  const offsets = [0]; // of each file among all bytes
  for (const { bytes } of files) offsets.push(offsets.at(-1)! + bytes);
  const total = offsets.at(-1)!;
  const started = performance.now();
  const rate = () => (tokens() - before) / ((performance.now() - started) / 1000);
  let saved = Number.NEGATIVE_INFINITY;
  let stopped = false;
  process.once("SIGINT", () => {
    stopped = true; // a second Ctrl-C ends it at once
  });
  if (!dataset.state.complete) {
    const progress = startProgress(megabytes(total), megabytes(offsets[place.file]!));
    try {
      const pieces = piecesFrom(files, reading, place.file, place.at);
      const threads = config.workers || availableParallelism();
      for await (const { piece, tokens, ends, tally } of tokenizePieces(pieces, reading, threads)) {
        addTally(place.tally, tally);
        let written = 0;
        for (const end of ends) {
          const split = splitOf(place.documents++);
          if (split === "val") place.val_documents++;
          dataset.append(split, tokens.subarray(written, end));
          written = end;
        }
        // the start of a document that continues in the next piece
        if (written < tokens.length) dataset.append(splitOf(place.documents), tokens.subarray(written));
        place.file = piece.file;
        place.at = piece.end;
        if (stopped || performance.now() - saved > SAVE_INTERVAL) {
          dataset.save(place);
          saved = performance.now();
        }
        progress.update(megabytes(offsets[piece.file]! + piece.done), `MB, ${(rate() / 1e6).toFixed(2)} M tokens/s`);
        if (stopped) break;
      }
    } catch (error) {
      dataset.close();
      throw error;
    } finally {
      progress.stop();
    }
  }
  if (stopped) {
    dataset.close();
    console.log(`stopped after ${count(place.documents)} documents; the same command continues from there`);
    process.exitCode = 130;
    return;
  }

  // 3) the files
  const { train_tokens, val_tokens } = dataset.state;
  const fault = faultOf(place, val_fraction);
  if (fault !== undefined) {
    dataset.discard();
    throw new UserError(fault);
  }
  const [first] = files;
  const name = config.input.length === 0 ? REPOSITORY : files.length === 1 ? basename(first!.path) : "several files";
  for (const line of describeTally(name, place.tally, reading)) console.log(line);
  const source = { name, files: files.length, bytes: total, documents: place.documents, seed, val_fraction };
  dataset.finish(place, { ...GPT2_META, source, train_tokens, val_tokens });
  console.log(`documents:  ${count(place.documents)}, of them ${count(place.val_documents)} for validation`);
  console.log(`train.bin:  ${count(train_tokens)} tokens`);
  console.log(`val.bin:    ${count(val_tokens)} tokens`);
  console.log(`speed:      ${count(Math.round(rate()))} tokens/s`);

  function tokens(): number {
    return dataset.state.train_tokens + dataset.state.val_tokens;
  }
}

/** All pieces from a place on, with the numbers of their files. */
async function* piecesFrom(
  files: InputFile[],
  reading: Reading,
  first: number,
  at: number,
): AsyncGenerator<Piece & { file: number }> {
  for (const [number, file] of files.entries()) {
    if (number < first) continue;
    for await (const piece of piecesOf(file, reading, number === first ? at : 0)) yield { ...piece, file: number };
  }
}

/** Why a dataset of these documents would be of no use. */
function faultOf({ documents, val_documents }: Place, val_fraction: number): string | undefined {
  if (documents < 2) return `${count(documents)} documents in the input, and it takes two: one for val.bin; add files`;
  if (val_documents === 0 && val_fraction > 0) {
    return `none of ${count(documents)} documents fell to val.bin; use a larger --val_fraction than ${val_fraction}`;
  }
  if (val_documents === documents) {
    return `all of ${count(documents)} documents fell to val.bin; use a smaller --val_fraction than ${val_fraction}`;
  }
  return undefined;
}

function count(n: number): string {
  return n.toLocaleString("en-US");
}

await runScript(import.meta.url, defaults, run);
