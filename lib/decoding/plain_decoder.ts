// The slow twin of the compiled decoder: every token runs the whole model eagerly over the last block_size tokens. For --compile=false,
// and the reference for the compiled one.

import type { GPT } from "../../model.ts";
import { tf } from "../common/tf.ts";
import type { SourceInputs } from "../nn/forward_args.ts";
import type { Decoder } from "./decoder.ts";
import { type Begun, begin } from "./source.ts";

/** A decoder on tfjs' current backend.
 * @param end the token that begins a target, for a model trained on pairs */
export function createPlainDecoder(model: GPT, end?: number): Decoder {
  const { block_size } = model.config;
  let sequences: number[][] = [];
  let begun: Begun[] = []; // if the model has an encoder

  async function logits(): Promise<Float32Array> {
    const result = tf.tidy(() => {
      const rows = model.transformer.encoder
        ? begun.map(({ text }) => text)
        : sequences.map((ids) => ids.slice(-block_size)); // [copies, T]
      const at = tf.tensor1d([rows[0]!.length - 1], "int32");
      return model.nextLogits(tf.tensor2d(rows, undefined, "int32"), at, model.transformer.encoder && sourceOf(begun));
    });
    const values = (await result.data()) as Float32Array;
    result.dispose();
    return values;
  }

  return {
    vocabSize: model.config.vocab_size,
    start(prompt, copies) {
      sequences = Array.from({ length: copies }, () => [...prompt]);
      if (model.transformer.encoder) begun = sequences.map((tokens) => begin(tokens, block_size, end));
      return logits();
    },
    next(tokens) {
      for (const [i, sequence] of sequences.entries()) sequence.push(tokens[i]!);
      const full = begun[0]?.text.length === block_size;
      for (const [i, { text }] of begun.entries()) {
        if (full) begun[i] = begin(sequences[i]!, block_size, end);
        else text.push(tokens[i]!);
      }
      return logits();
    },
    async dispose() {},
  };
}

function sourceOf(begun: readonly Begun[]): SourceInputs {
  const sources = begun.map(({ source }) => source);
  return {
    source: tf.tensor2d(sources, undefined, "int32"),
    source_length: tf.tensor1d(
      sources.map(({ length }) => length),
      "int32",
    ),
  };
}
