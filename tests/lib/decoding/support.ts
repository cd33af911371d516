// A decoder whose logits a test chooses.

import type { Decoder } from "../../../lib/decoding/decoder.ts";

/** Gives `logits(tokens)` for each sequence; `contexts` notes all that it was asked for. */
export function scriptedDecoder(vocabSize: number, logits: (tokens: readonly number[]) => readonly number[]) {
  let sequences: number[][] = [];
  const contexts: number[][] = [];
  const all = async () => {
    contexts.push(...sequences.map((tokens) => [...tokens]));
    return Float32Array.from(sequences.flatMap((tokens) => [...logits(tokens)]));
  };
  const decoder: Decoder = {
    vocabSize,
    start(prompt, copies) {
      sequences = Array.from({ length: copies }, () => [...prompt]);
      return all();
    },
    next(tokens) {
      for (const [i, sequence] of sequences.entries()) sequence.push(tokens[i]!);
      return all();
    },
    async dispose() {},
  };
  return { decoder, contexts };
}
