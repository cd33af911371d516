// A decoder whose logits a test chooses, and one decoder against another.

import type { Decoder } from "../../../lib/decoding/decoder.ts";
import { assertClose, randomInts } from "../../support.ts";

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

/** Both decoders through the same tokens, another one in each sequence: the same logits at every one. */
export async function follow(
  decoder: Decoder,
  plain: Decoder,
  {
    prompt,
    copies,
    steps,
    tolerance = { atol: 5e-5, rtol: 1e-4 }, // logits of up to some 5, sums of some 30 products in another order
  }: { prompt: number[]; copies: number; steps: number; tolerance?: { atol: number; rtol: number } },
): Promise<void> {
  const compare = (actual: Float32Array, expected: Float32Array, at: number) =>
    assertClose(actual, expected, { ...tolerance, label: `${copies} copies, token ${at}` });
  compare(await decoder.start(prompt, copies), await plain.start(prompt, copies), prompt.length);
  for (let i = 0; i < steps; i++) {
    const tokens = [...randomInts(`tokens ${i}`, [copies], 0, decoder.vocabSize)];
    compare(await decoder.next(tokens), await plain.next(tokens), prompt.length + i + 1);
  }
}
