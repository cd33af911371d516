// Evaluates a model on a split of a dataset, or on a text: every token but the first once, unlike train.ts' random batches. Writes OUT_DIR/evaluation/eval_{name}_{dataset}_{date}_{time}.json.
//
//   npx tsx tools/evaluate.ts --out_dir=out-shakespeare-char
//   npx tsx tools/evaluate.ts --out_dir=out-shakespeare-char --evaluate=play.txt
//
// Left out: measures other than loss, perplexity and bits per byte.

import { basename, extname } from "node:path";
import { runScript, sourceOf } from "../configurator.ts";
import { writeResult } from "../lib/common/atomic.ts";
import { UserError } from "../lib/common/errors.ts";
import { evaluationPath, fileNamePart, runName } from "../lib/common/file_names.ts";
import { describe } from "../lib/decoding/evaluate.ts";
import { createEngine } from "../lib/engine/runtime/program.ts";
import { evaluateModel } from "../lib/formats/evaluate_model.ts";
import { checkArchitecture, type OpenedModel, openModel, textTokenizer } from "../lib/formats/pretrained.ts";
import { datasetFile, datasetFolder, shownPath } from "../lib/text/dataset.ts";
import { GPT2_META, readMeta } from "../lib/text/meta.ts";
import { readInput, readText } from "../lib/text/text.ts";
import { TokenFile } from "../lib/text/token_file.ts";
import { createTokenizer, type Tokenizer } from "../lib/text/tokenizer.ts";
import { difference } from "../lib/text/vocabulary.ts";

export const defaults = {
  // model
  init_from: "resume", // "resume" (out_dir's checkpoint), another run's out_dir, a Hugging Face or nanoGPT folder, or gpt2, gpt2-medium, gpt2-large, gpt2-xl
  out_dir: "out", // folder of the checkpoint; the result goes into its folder evaluation/
  // what to predict
  dataset: "", // its name or folder; empty for the one that the checkpoint was trained on
  split: "val", // "train" or "val"
  evaluate: "", // a text file instead of a dataset
  keep_crlf: false, // leave line ends \r\n and \r of the text as they are; else they become \n, as in training
  max_tokens: 0, // only this many at the start; 0 for all of them
  context: 0, // most tokens that the model sees; 0 for block_size, more only if pos isn't learned
  stride: 0, // tokens from one window to the next: each token sees at least context - stride tokens before it; 1 is exact and slow, 0 is half of it
  json: false, // print the result in one line
  // system
  device: "auto", // "auto" or "cpu"
  dtype: "float32", // "float32", or "int8" weights
  compile: true, // false runs the model eagerly: slow
  threads: 0, // 0 for one per physical core
};
type Settings = Readonly<typeof defaults>;

/** The tokens to predict. */
interface Task {
  dataset: string; // for the file's name
  what: string; // for a person
  ids: number[];
  text: string | undefined; // of the tokens, if they have one
}

/**
 * Print a model's evaluation on a dataset or a text, and write it into the run's evaluation/.
 * @throws UserError for a model or a text that can't be used
 */
export async function run(config: Settings): Promise<void> {
  if (!["train", "val"].includes(config.split))
    throw new UserError(`split must be train or val, got "${config.split}"`);
  if (config.evaluate && sourceOf(config, "dataset")) throw new UserError("give --dataset or --evaluate, not both");
  if (!Number.isInteger(config.max_tokens) || config.max_tokens < 0 || config.max_tokens === 1) {
    throw new UserError(`max_tokens must be 0 or an integer of at least 2, got ${config.max_tokens}`);
  }

  // 1) the model and the tokens
  const opened = await openModel(config.init_from, config.out_dir, { log: console.error });
  const { source, metadata } = opened;
  checkArchitecture(opened, "tools/evaluate.ts", "decoder");
  const tokenizer = await (config.evaluate ? textTokenizer(opened, "--evaluate") : opened.tokenizer());
  const { dataset, what, ids, text } = config.evaluate
    ? textTask(config, tokenizer)
    : await datasetTask(config, opened, tokenizer);

  // 2) its loss
  const engine = await createEngine(config);
  const start = performance.now();
  const result = await evaluateModel(engine, opened, config, text, ids);
  const seconds = (performance.now() - start) / 1000;

  // 3) print it, and write the file
  const date = new Date();
  const about = {
    ...{ name: runName(config.out_dir), date: date.toISOString(), model: source, iter_num: metadata?.iter_num ?? null },
    ...{ dataset, split: config.evaluate ? null : config.split },
    ...{ dtype: config.dtype, device: engine.description, seconds },
  };
  const json = JSON.stringify({ ...about, ...result });
  const path = evaluationPath(config.out_dir, dataset, date);
  writeResult(path, `${json}\n`, "can't write the result");
  const steps = metadata ? ` after ${metadata.iter_num} steps` : "";
  console.log(config.json ? json : `${what} by ${source}${steps}\n${describe(result).trimEnd()}`);
  console.error(`wrote ${path}`);
}

function textTask({ evaluate: path, max_tokens, keep_crlf }: Settings, tokenizer: Tokenizer): Task {
  let text = readText(readInput(path), path, { keep_crlf, log: console.error });
  let ids = tokenizer.encode(text);
  if (max_tokens > 0 && ids.length > max_tokens) {
    ids = ids.slice(0, max_tokens);
    text = tokenizer.decode(ids);
  }
  return { dataset: fileNamePart(basename(path, extname(path))), what: path, ids, text };
}

async function datasetTask(
  { dataset, split, max_tokens }: Settings,
  opened: OpenedModel,
  tokenizer: Tokenizer,
): Promise<Task> {
  const { source, metadata } = opened;
  const name = dataset || metadata?.config.dataset;
  if (typeof name !== "string" || !name) {
    throw new UserError(`${source} doesn't record its training data; give --dataset=NAME or --evaluate=FILE`);
  }
  const folder = datasetFolder(name);
  const said = readMeta(folder);
  const meta = said ?? (tokenizer.meta.kind === "ids" ? tokenizer.meta : GPT2_META);
  const differs = difference(tokenizer.meta, meta);
  if (differs) {
    const advice = "take the dataset that it was trained on, or a text: --evaluate=FILE";
    throw new UserError(
      `the tokens of dataset ${name} mean something else to the model of ${source}: ${differs}; ${advice}`,
    );
  }
  const file = new TokenFile(datasetFile(folder, split === "train" ? "train.bin" : "val.bin"));
  file.vocabSize = said?.vocab_size ?? opened.modelArgs.vocab_size;
  const tokens = new Int32Array(max_tokens > 0 ? Math.min(max_tokens, file.length) : file.length);
  file.read(0, tokens.length, tokens);
  file.close();
  if (tokens.length < 2) throw new UserError(`${shownPath(file.path)} is too short; it takes two tokens or more`);
  const ids = Array.from(tokens);
  const text = meta.kind === "ids" ? undefined : (await createTokenizer(meta)).decode(ids);
  return { dataset: fileNamePart(basename(folder)), what: `${split} of ${name}`, ids, text };
}

await runScript(import.meta.url, defaults, run, {
  usage: "Evaluate a model on a dataset or a text.",
  log: console.error,
});
