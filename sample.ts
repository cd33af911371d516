// Samples from a trained model, or evaluates it on a text.
//
//   npx tsx sample.ts --out_dir=out-shakespeare-char --start="O Romeo" --num_samples=3
//   npx tsx sample.ts --init_from=gpt2 --interactive=true
//   npx tsx sample.ts --out_dir=out-shakespeare-char --evaluate=play.txt
//   npx tsx sample.ts --out_dir=out-encoder --start="To be or not to [MASK]e"
//
// stdout has only the text (or JSON); everything else goes to stderr.

import { runScript, sourceOf } from "./configurator.ts";
import { writeResult } from "./lib/common/atomic.ts";
import { UserError } from "./lib/common/errors.ts";
import { unescapeText } from "./lib/common/escapes.ts";
import { samplePath } from "./lib/common/file_names.ts";
import { visible } from "./lib/common/printable.ts";
import { keyOf, uniform } from "./lib/common/rng.ts";
import { checkPromptFits, createContinuer } from "./lib/decoding/continue.ts";
import { describe } from "./lib/decoding/evaluate.ts";
import { encodeMasked } from "./lib/decoding/fill_masks.ts";
import { batchSize, type Sample } from "./lib/decoding/generate.ts";
import { promptLoop } from "./lib/decoding/interactive.ts";
import { jsonOutput, textOutput } from "./lib/decoding/output.ts";
import { defaultStart, readStart, startNotice } from "./lib/decoding/start.ts";
import { createEngine } from "./lib/engine/runtime/program.ts";
import { evaluateModel } from "./lib/formats/evaluate_model.ts";
import { modelWithContext } from "./lib/formats/model_settings.ts";
import { checkArchitecture, openModel, textTokenizer } from "./lib/formats/pretrained.ts";
import { readInput, readText } from "./lib/text/text.ts";

export const defaults = {
  // model
  init_from: "resume", // "resume" (out_dir's checkpoint), another run's out_dir, a Hugging Face or nanoGPT folder, or gpt2, gpt2-medium, gpt2-large, gpt2-xl
  out_dir: "out", // folder of the checkpoint
  context: 0, // most tokens that the model sees; 0 for block_size, more only if pos isn't learned
  // what to continue
  start: "\n", // the text to continue, by default a line break if the vocabulary has one; FILE:prompt.txt takes it from a file, - from standard input
  keep_crlf: false, // leave line ends \r\n and \r in --start and --evaluate as they are; else they become \n, as in training
  interactive: false, // continue one line after the other, from the terminal or a pipe: a sample each, unless num_samples is given
  num_samples: 10,
  max_new_tokens: 500, // tokens in each sample
  stop: [] as string[], // texts, separated by commas: a sample ends before the first one that occurs. \n, \t, \r, \\ and \uXXXX are understood
  // how to choose each token, in this order
  repetition_penalty: 1, // above 1, tokens of the prompt and the text so far become less likely
  temperature: 0.8, // below 1 more certain, above 1 more random; 0 is greedy
  top_k: 200, // sample from the k likeliest tokens; 0 for all of them, 1 is greedy
  top_p: 1, // sample from the likeliest tokens that together have this probability; 1 for all of them
  min_p: 0, // sample from tokens at least this share as likely as the likeliest; 0 for all of them
  seed: 1337, // the same seed gives the same text
  json: false, // a line of JSON for each sample: sample, prompt, text, tokens, logprobs, finish (length, stop, or interrupt), seconds; with evaluate one line with its figures
  save: false, // keep the samples in out_dir too, as samples/sample_{date}_{time}.txt
  // evaluation of a text
  evaluate: "", // a text file: print its perplexity and bits per byte instead of sampling
  stride: 0, // tokens from one window to the next: each token sees at least context - stride tokens before it; 1 is exact and slow, 0 is half of it
  // system
  device: "auto", // "auto" or "cpu"
  dtype: "float32", // "float32", or "int8" weights: a quarter of the memory, a little less exact
  compile: true, // false runs the whole model eagerly for each token: slow
  threads: 0, // 0 for one per physical core
};

type Config = Readonly<typeof defaults>;

/**
 * Write samples, or the evaluation of a text, to stdout.
 * @throws UserError for a model or a prompt that can't be used
 */
export async function run(config: Config): Promise<void> {
  const { interactive } = config;
  const stop = config.stop.map((text) => unescapeText(text, "stop"));
  if (interactive && sourceOf(config, "start")) {
    throw new UserError("--interactive reads its prompts line by line from standard input; leave --start out");
  }
  process.stdout.on("error", (error) => process.exit("code" in error && error.code === "EPIPE" ? 0 : 1));
  if (config.evaluate) return await evaluateText(config);
  let given = interactive ? "" : await readStart(config.start, { keep_crlf: config.keep_crlf, log: console.error });

  // 1) the model, and the prompt in the tokens that it was trained on
  const opened = await openModel(config.init_from, config.out_dir, { log: console.error });
  const model = modelWithContext(opened, config.context);
  const tokenizer = await (stop.length > 0 ? textTokenizer(opened, "--stop") : opened.tokenizer());
  if (!interactive && !sourceOf(config, "start")) {
    given = defaultStart(tokenizer);
    if (given !== config.start) console.error(startNotice(given));
  }
  const isEncoder = model.config.architecture === "encoder";
  const pairs = opened.tokenizerMeta?.pairs;
  const goesOn = !isEncoder && !pairs; // else the sample isn't a continuation of the prompt
  const encodePrompt = (prompt: string) => {
    const ids = isEncoder ? encodeMasked(prompt, tokenizer) : tokenizer.encode(prompt, { special: true }); // "<|endoftext|>" is the token, as in nanoGPT
    if (!goesOn) checkPromptFits(ids, model.config, pairs);
    if (ids.length === 0) throw new UserError("--start is empty; give at least one character to continue");
    return ids;
  };
  if (!interactive) encodePrompt(given); // refuse what can't be encoded before reading the weights
  const engine = await createEngine(config);
  const weights = config.compile ? opened.frozen(config.dtype) : undefined;
  if (!weights) await opened.read(model);
  const written: string[] = []; // to be saved
  const write = (text: string) => {
    if (config.save) written.push(text);
    process.stdout.write(process.stdout.isTTY ? visible(text) : text); // a pipe gets it unchanged
  };

  // 2) samples, as many side by side as memory allows
  const continueTexts = await createContinuer(engine, model, tokenizer, { frozen: weights, pairs });
  opened.close();
  const sampled = { samples: 0, tokens: 0, ms: 0, firstMs: 0 };
  async function answer(prompt: string, count: number, separator?: string, interrupted = () => false) {
    const ids = encodePrompt(prompt);
    const random = (sample: number, step: number) => uniform(keyOf(config.seed, "sample", sample), step);
    const numbers = Array.from({ length: count }, () => sampled.samples++);
    const size = Math.ceil(count / Math.ceil(count / batchSize(model.config)));
    const shown = goesOn ? prompt : "";
    while (numbers.length > 0 && !interrupted()) {
      const output = config.json ? jsonOutput(prompt, write) : textOutput(shown, write, separator);
      const start = performance.now();
      const options = { ...config, stop, random, interrupted, logprobs: config.json };
      let batch: readonly Sample[] = [];
      for await (batch of continueTexts(ids, numbers.splice(0, size), options)) {
        sampled.firstMs ||= performance.now() - start;
        output.update(batch);
      }
      sampled.ms += performance.now() - start;
      for (const { logprobs } of batch) sampled.tokens += logprobs.length;
    }
  }
  if (interactive) {
    const count = sourceOf(config, "num_samples") ? config.num_samples : 1;
    await promptLoop((line, interrupted) => answer(line, count, count === 1 ? "\n" : undefined, interrupted));
  } else {
    await answer(given, config.num_samples);
  }
  await continueTexts.dispose();
  if (sampled.tokens > 0) {
    const speed = ((1000 * sampled.tokens) / sampled.ms).toFixed(1);
    const times = `in ${(sampled.ms / 1000).toFixed(2)} s, the first after ${sampled.firstMs.toFixed(0)} ms`;
    console.error(`${sampled.tokens} tokens ${times}: ${speed} tokens/s (${engine.description})`);
  }
  if (config.save) console.error(`saved ${saveSamples(config.out_dir, written.join(""))}`);
}

/** Print the model's evaluation on the text of config.evaluate. */
async function evaluateText(config: Config): Promise<void> {
  const text = readText(readInput(config.evaluate), config.evaluate, {
    keep_crlf: config.keep_crlf,
    log: console.error,
  });
  const opened = await openModel(config.init_from, config.out_dir, { log: console.error });
  checkArchitecture(opened, "--evaluate", "decoder");
  const tokenizer = await textTokenizer(opened, "--evaluate");
  const result = await evaluateModel(await createEngine(config), opened, config, text, tokenizer.encode(text));
  process.stdout.write(config.json ? `${JSON.stringify(result)}\n` : describe(result));
}

/** Write samples into a run's folder. @returns the file's path */
function saveSamples(outDir: string, samples: string): string {
  const path = samplePath(outDir);
  writeResult(path, samples, "can't save the samples");
  return path;
}

await runScript(import.meta.url, defaults, run, {
  usage: "Draw text from a trained model, or say how well it predicts a text.",
  log: console.error,
});
