// Draws text from a trained model.
//
//   tsx sample.ts --out_dir=out-shakespeare-char --start="O Romeo" --num_samples=3
//
// Left out so far: GPT-2's published weights, a cache of keys and values.

import { readFileSync } from "node:fs";

import { checkModelArgs } from "./config/model_args.ts";
import { configure } from "./configurator.ts";

import { GPT2_META } from "./data/meta.ts";
import { createTokenizer } from "./data/tokenizer.ts";
import { loadCheckpoint } from "./engine/checkpoint.ts";
import { explain, main, UserError } from "./engine/errors.ts";
import { createEngine } from "./engine/program.ts";
import { keyOf, uniform } from "./engine/rng.ts";
import { GPT } from "./model.ts";

const defaults = {
  init_from: "resume", // "resume" (out_dir's checkpoint), or another run's out_dir
  out_dir: "out", // folder of the checkpoint
  start: "\n", // the text to continue; FILE:prompt.txt takes it from a file
  num_samples: 10,
  max_new_tokens: 500, // tokens in each sample
  temperature: 0.8, // below 1 more certain, above 1 more random
  top_k: 200, // draw among the k likeliest tokens; 0 for all of them, 1 for always the likeliest
  seed: 1337, // the same seed gives the same text
  device: "auto", // "auto" or "cpu"
  dtype: "float32",
  compile: true, // trace the model into one graph; false runs it operation by operation, slowly
  threads: 0, // 0 for one a physical core
};

await main(async () => {
  const config = await configure(import.meta.url, defaults, {
    usage: "Draw text from a trained model.",
    log: console.error, // stdout is for the text
  });
  const { num_samples, max_new_tokens, temperature, top_k, seed } = config;

  // 1) the model, as it was saved
  const directory = config.init_from === "resume" ? config.out_dir : config.init_from;
  const { metadata, tensors } = loadCheckpoint(directory);
  const model = new GPT(checkModelArgs(metadata.model_args, `the checkpoint in ${directory}`));
  for (const { name, shape, data } of model.parameters) tensors.read(name, shape, data);
  tensors.close();

  // 2) the prompt, in the tokens that the model was trained on
  const tokenizer = await createTokenizer(metadata.tokenizer ?? GPT2_META, `the checkpoint in ${directory}`);
  const prompt = readStart(config.start);
  const promptIds = tokenizer.encode(prompt);
  if (promptIds.length === 0) throw new UserError("--start is empty; give at least one character to go on from");

  // 3) one program for every length: the context is padded behind, where a causal model doesn't look
  const engine = await createEngine(config);
  const T = model.config.block_size;
  const next = await engine.program(({ ids, at }) => model.nextLogits(ids, at), {
    variables: model.parameters,
    inputs: { ids: { shape: [1, T], dtype: "int32" }, at: { shape: [1], dtype: "int32" } },
  });
  const ids = new Int32Array(T);
  const logits = (context: Int32Array) => {
    ids.set(context);
    return next.run({ ids, at: Int32Array.of(context.length - 1) });
  };

  // 4) draw, printing each token as it comes
  process.stdout.on("error", (error) => process.exit("code" in error && error.code === "EPIPE" ? 0 : 1));
  for (let sample = 0; sample < num_samples; sample++) {
    const key = keyOf(seed, "sample", sample);
    let drawn = 0;
    const random = () => uniform(key, drawn++);
    const decoder = tokenizer.decoder();
    process.stdout.write(prompt);
    for await (const token of model.generate(promptIds, max_new_tokens, { temperature, top_k, random, logits })) {
      process.stdout.write(decoder.push(token));
    }
    process.stdout.write(`${decoder.end()}\n---------------\n`);
  }
});

/** The prompt itself, or the text of the file after FILE:. */
function readStart(start: string): string {
  if (!start.startsWith("FILE:")) return start;
  try {
    return readFileSync(start.slice(5), "utf8");
  } catch (error) {
    throw explain(error, `can't read --start=${start}`);
  }
}
