// How fast text is drawn: sample.ts' compiled program with random weights, always the likeliest token. There is no
// cache of keys and values, so every token costs a forward pass over the whole context, whatever its length.

import { createEngine } from "../engine/program.ts";
import { type Benchmark, count, describeModel, metric, randomModel, rate } from "./benchmark.ts";

export const sampling: Benchmark = async (settings, progress) => {
  const model = randomModel(settings);
  const engine = await createEngine(settings);
  const T = model.config.block_size;
  const firstTimes: number[] = []; // ms from the weights to the first token, compiling included
  const tokenTimes: number[] = []; // ms of each later one
  for (let round = 0; round <= settings.rounds; round++) {
    const start = performance.now();
    const next = await engine.program(({ ids, at }) => model.nextLogits(ids, at), {
      variables: model.parameters,
      inputs: { ids: { shape: [1, T], dtype: "int32" }, at: { shape: [1], dtype: "int32" } },
    });
    const ids = new Int32Array(T);
    const logits = (context: Int32Array) => {
      ids.set(context);
      return next.run({ ids, at: Int32Array.of(context.length - 1) });
    };
    let last = start;
    // two more than are counted: the first is timed apart, the second may still allocate
    const tokens = model.generate([0], settings.max_new_tokens + 2, { top_k: 1, random: () => 0, logits });
    let index = 0;
    const counts = round > 0; // the first round warms up: what it runs is not yet compiled by V8
    for await (const _ of tokens) {
      const now = performance.now();
      if (counts && index === 0) firstTimes.push(now - start);
      if (counts && index > 1) tokenTimes.push(now - last);
      last = now;
      index++;
    }
    await next.dispose();
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
      `token:       ${perToken.value.toFixed(2)} ms (median of ${count(tokenTimes.length)}), ${count(speed.value)} tokens/s`,
      `first token: ${first.value.toFixed(0)} ms from the weights, compiling included (median of ${settings.rounds})`,
    ],
  };
};
