// Sampling speed: sample.ts' decoder with random weights, greedy, one sample. At block_size a new text begins with a short
// prompt: beyond it, every token costs a pass over the whole context, which would measure the prefill and not decoding.

import { UserError } from "../common/errors.ts";
import { whole } from "../common/format.ts";
import { createCachedDecoder } from "../decoding/cached_decoder.ts";
import { generate } from "../decoding/generate.ts";
import { createPlainDecoder } from "../decoding/plain_decoder.ts";
import { createEngine } from "../engine/runtime/program.ts";
import { type Benchmark, describeModel, metric, randomModel, rate } from "./benchmark.ts";

const PROMPT = 8; // tokens

export const sampling: Benchmark = async (settings, progress) => {
  if (settings.architecture === "encoder") throw new UserError("an encoder writes no text to be timed; leave it out");
  const model = randomModel(settings);
  const engine = await createEngine(settings);
  const { block_size, vocab_size } = model.config;
  const prompt = Array.from({ length: Math.min(PROMPT, Math.ceil(block_size / 2)) }, (_, i) => i % vocab_size);
  // two tokens of each text aren't counted: the first includes the prefill, the second may still allocate
  const most = Math.max(1, block_size - prompt.length - 1);
  const firstTimes: number[] = []; // ms from the weights to the first token, compiling included
  const tokenTimes: number[] = []; // ms of each later one
  for (let round = 0; round <= settings.rounds; round++) {
    const start = performance.now();
    const decoder = settings.compile ? await createCachedDecoder(engine, model) : createPlainDecoder(model);
    const counts = round > 0; // the first round is warm-up: V8 has not compiled the code yet
    for (let done = 0; done < settings.max_new_tokens; done += most) {
      const max_new_tokens = 2 + Math.min(most, settings.max_new_tokens - done);
      let index = 0;
      let last = start;
      const options = { max_new_tokens, top_k: 1, logprobs: false, random: () => 0 };
      for await (const _ of generate(decoder, prompt, new Set([0]), options)) {
        const now = performance.now();
        if (counts && index === 0 && done === 0) firstTimes.push(now - start);
        if (counts && index > 1) tokenTimes.push(now - last);
        last = now;
        index++;
      }
    }
    await decoder.dispose();
    progress(`sampling ${round}/${settings.rounds}: ${settings.max_new_tokens} tokens`);
  }

  const perToken = metric("ms_per_token", "ms", "lower", tokenTimes);
  const speed = rate("tokens_per_s", "tokens/s", tokenTimes, 1);
  const first = metric("first_token_ms", "ms", "lower", firstTimes);
  return {
    metrics: [perToken, speed, first],
    facts: { device: engine.description, threads: engine.threads, ...model.config, params: model.numParams(false) },
    summary: [
      `device:      ${engine.description}`,
      `model:       ${describeModel(model)}`,
      `token:       ${perToken.value.toFixed(2)} ms (median of ${whole(tokenTimes.length)}), ${whole(speed.value)} tokens/s`,
      `first token: ${first.value.toFixed(0)} ms from the weights, compiling included (median of ${settings.rounds})`,
    ],
  };
};
