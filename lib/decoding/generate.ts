// Continues a prompt, several samples side by side: tokens, and their text if there is a tokenizer. The random number of a token is a
// function of its sample and step alone, so a sample doesn't depend on those beside it.

import { setImmediate } from "node:timers/promises";
import type { GPTConfig } from "../../model.ts";
import type { Tokenizer } from "../text/tokenizer.ts";
import { checkTokens } from "./check_tokens.ts";
import type { Decoder } from "./decoder.ts";
import { StopFilter } from "./stop.ts";
import { type SampledToken, type SamplingOptions, TokenSampler } from "./token_sampler.ts";

const PAUSE = 10; // ms after which the event loop gets a turn

export interface GenerateOptions extends SamplingOptions {
  max_new_tokens: number;
  /** A number in [0, 1) for a sample's token number `step`. */
  random(sample: number, step: number): number;
}

export interface SampleToken extends SampledToken {
  sample: number;
}

/**
 * Continue a prompt of at least one token, one step at a time for all samples.
 * @param samples their numbers; removing one from the set ends it
 * @throws UserError if the prompt has a token that the decoder doesn't know
 */
export async function* generate(
  decoder: Decoder,
  prompt: readonly number[],
  samples: ReadonlySet<number>,
  options: GenerateOptions,
): AsyncGenerator<SampleToken[]> {
  const { max_new_tokens, random } = options;
  const V = decoder.vocabSize;
  checkTokens(prompt, V);
  const sampler = new TokenSampler(V, options);
  const rows = [...samples].map((sample) => ({ sample, seen: new Set(prompt), last: 0 }));
  if (max_new_tokens === 0) return;
  let paused = performance.now();
  let logits = await decoder.start(prompt, rows.length); // [rows * V]
  for (let step = 0; ; step++) {
    const sampled: SampleToken[] = [];
    for (const [i, row] of rows.entries()) {
      if (!samples.has(row.sample)) continue; // ended: its last token is fed again, and the result ignored
      const next = sampler.sample(logits.subarray(i * V, (i + 1) * V), row.seen, random(row.sample, step));
      row.last = next.token;
      row.seen.add(next.token);
      sampled.push({ sample: row.sample, ...next });
    }
    yield sampled;
    if (step + 1 === max_new_tokens || samples.size === 0) return;
    if (performance.now() - paused > PAUSE) {
      await setImmediate(); // yield to signals and output
      paused = performance.now();
    }
    logits = await decoder.next(rows.map(({ last }) => last));
  }
}

/** One sample so far. */
export interface Sample {
  sample: number;
  text: string; // up to a stop string, without it
  tokens: number[]; // all, including those of the stop string
  logprobs: number[];
  finish?: "length" | "stop" | "interrupt"; // once it is complete or interrupted
}

export interface TextOptions extends GenerateOptions {
  stop?: readonly string[]; // a text ends before the first of these
  interrupted?(): boolean; // checked at each step: true ends all samples at once
}

/** The same as texts: after each step the same, growing list. A stop string that begins in the prompt doesn't count. */
export async function* generateTexts(
  decoder: Decoder,
  tokenizer: Tokenizer,
  prompt: readonly number[],
  samples: readonly number[],
  options: TextOptions,
): AsyncGenerator<readonly Sample[]> {
  const { stop = [], max_new_tokens, interrupted = () => false } = options;
  const all = samples.map((sample): Sample => ({ sample, text: "", tokens: [], logprobs: [] }));
  const streams = all.map((sample) => ({ sample, decoder: tokenizer.decoder(), filter: new StopFilter(stop) }));
  const streamOf = new Map(streams.map((stream) => [stream.sample.sample, stream]));
  const running = new Set(samples);
  for await (const sampled of generate(decoder, prompt, running, options)) {
    const giveUp = interrupted();
    for (const { sample: number, token, logprob } of sampled) {
      const { sample, decoder, filter } = streamOf.get(number)!;
      sample.tokens.push(token);
      sample.logprobs.push(logprob);
      sample.text += filter.push(decoder.push(token));
      const full = sample.tokens.length === max_new_tokens;
      if (!filter.stopped && !full && !giveUp) continue;
      sample.text += filter.push(decoder.end()) + filter.end();
      sample.finish = filter.stopped ? "stop" : full ? "length" : "interrupt";
      running.delete(number);
    }
    yield all;
  }
}

/** The tokens of one sample, number 0. */
export async function continueTokens(decoder: Decoder, prompt: readonly number[], options: GenerateOptions) {
  const tokens: number[] = [];
  for await (const [sampled] of generate(decoder, prompt, new Set([0]), options)) tokens.push(sampled!.token);
  return tokens;
}

/** The number of samples run side by side: they share the reading of the weights, but each has its KV cache in memory, together 1 GiB
 * at most. Beyond 16 a large model gains little: one of GPT-2's size sampled 25, 97, 142 and 158 tokens/s with 1, 8, 16 and 32 side
 * by side on two busy cores. */
export function batchSize({ n_layer, n_embd, block_size }: GPTConfig): number {
  const bytes = 2 * n_layer * block_size * n_embd * 4;
  return Math.max(1, Math.min(16, Math.floor(2 ** 30 / bytes)));
}
