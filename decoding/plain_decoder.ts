// The slow twin of the compiled decoder: every token runs the whole model over the last block_size tokens, operation by
// operation. For --compile=false, and what the compiled one is tested against.

import * as tf from "@tensorflow/tfjs";

import type { GenerativeModel } from "../library/interfaces.ts";
import type { Decoder } from "./decoder.ts";

/** A decoder on tfjs' present backend. */
export function createPlainDecoder(model: GenerativeModel): Decoder {
  let sequences: number[][] = [];

  async function logits(): Promise<Float32Array> {
    const result = tf.tidy(() => {
      const window = sequences.map((tokens) => tokens.slice(-model.config.block_size)); // [copies, T]
      return model.nextLogits(tf.tensor2d(window, undefined, "int32"), tf.tensor1d([window[0]!.length - 1], "int32"));
    });
    const values = (await result.data()) as Float32Array;
    result.dispose();
    return values;
  }

  return {
    vocabSize: model.config.vocab_size,
    start(prompt, copies) {
      sequences = Array.from({ length: copies }, () => [...prompt]);
      return logits();
    },
    next(tokens) {
      for (const [i, sequence] of sequences.entries()) sequence.push(tokens[i]!);
      return logits();
    },
    async dispose() {},
  };
}
