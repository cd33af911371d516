// Our side of tools/compare/compare_generate.ts, in a separate process: continues a prompt greedily with the weights of a folder
// and prints one JSON line, the same figures as rival_generate.py.

import { runScript } from "../../configurator.ts";
import { peakRssMb } from "../../lib/bench/benchmark.ts";
import { median } from "../../lib/common/statistics.ts";
import { createCachedDecoder } from "../../lib/decoding/cached_decoder.ts";
import { continueTokens } from "../../lib/decoding/generate.ts";
import { createEngine } from "../../lib/engine/runtime/program.ts";
import { openModel } from "../../lib/formats/pretrained.ts";
import { GPT } from "../../model.ts";

export const defaults = {
  model: "", // the folder
  prompt: [0], // token numbers
  tokens: 200, // new ones in a round
  rounds: 3,
  dtype: "float32", // or "int8"
  threads: 2,
};

/** Print our decoder's figures as one line of JSON. */
export async function run(config: Readonly<typeof defaults>): Promise<void> {
  const opened = await openModel(config.model, "", { log: () => {} });
  const model = new GPT(opened.modelArgs);
  const engine = await createEngine({ compile: true, threads: config.threads });
  const decoder = await createCachedDecoder(engine, model, opened.frozen(config.dtype));
  const generate = (max_new_tokens: number) =>
    continueTokens(decoder, config.prompt, { max_new_tokens, temperature: 0, logprobs: false, random: () => 0 });
  await generate(1);
  const first_token_s = process.uptime();
  const times: number[] = [];
  let tokens: number[] = [];
  for (let round = 0; round < config.rounds; round++) {
    const start = performance.now();
    tokens = await generate(config.tokens);
    times.push((performance.now() - start) / 1000);
  }
  const figures = { tokens_per_s: config.tokens / median(times), first_token_s, peak_rss_mb: peakRssMb() };
  console.log(JSON.stringify({ tokens, ...figures }));
  await decoder.dispose();
  opened.close();
}

await runScript(import.meta.url, defaults, run, { usage: "Time our decoder.", log: () => {} });
