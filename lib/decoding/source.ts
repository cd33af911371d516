// The source of an encoder-decoder during sampling: its tokens, and its keys and values for the cached decoder, computed once per
// source.

import type { GPT } from "../../model.ts";
import type { Engine } from "../engine/runtime/program.ts";
import { type Bound, bind } from "../engine/runtime/session.ts";
import type { DecoderWeights } from "./decoder.ts";

/** A sequence as source, which the encoder reads, and text, which the decoder continues. */
export interface Begun {
  source: number[];
  text: number[];
}

/**
 * Split `tokens` into source and text, as in training: the text of a pair begins with the dataset's `end`; without pairs it begins
 * with the source's last token, and once it is full it becomes the source of the next text.
 */
export function begin(tokens: readonly number[], block_size: number, end: number | undefined): Begun {
  if (end !== undefined && tokens.length > block_size) {
    throw new Error(
      `a source of ${tokens.length} tokens, or what is written for it, is beyond block_size ${block_size}`,
    );
  }
  return { source: tokens.slice(-block_size), text: [end ?? tokens.at(-1)!] };
}

export interface Reader {
  /** Sources of one length, repeated `copies` times -> inputs for the decoder, by the names of `memoryNames`. */
  read(sources: readonly (readonly number[])[], copies: number): Promise<Bound>;
  dispose(): Promise<void>;
}

/** The decoder's inputs that come from a source, each [B, K, S, D]. */
export function memoryNames(n_layer: number): string[] {
  return Array.from({ length: n_layer }, (_, i) => [`memory.key.${i}`, `memory.value.${i}`]).flat();
}

/** Compile the model's encoder, with its present weights. */
export async function createReader(engine: Engine, model: GPT, options: DecoderWeights): Promise<Reader> {
  const { n_layer, n_head, n_kv_head, n_embd } = model.config;
  const [K, D] = [n_kv_head || n_head, n_embd / n_head];
  const names = memoryNames(n_layer);
  const program = await engine.frozen(
    ({ batch: B, length: S }, input) => {
      const keys = model.transformer.readSource!(input("source", [B!, S!], "int32"), input("positions", [S!], "int32"));
      const results = keys.flatMap(({ key, value }) => [key, value]);
      return Object.fromEntries(names.map((name, i) => [name, results[i]!]));
    },
    { ...options, weights: model.parameters, sizes: ["batch", "length"] },
  );
  return {
    async read(sources, copies) {
      const [B, S] = [sources.length, sources[0]!.length];
      const inputs = bind({
        source: { data: Int32Array.from(sources.flat()), shape: [B, S], dtype: "int32" },
        positions: { data: Int32Array.from({ length: S }, (_, i) => i), shape: [S], dtype: "int32" },
      });
      const size = B * K * S * D;
      const arrays = names.map(() => new Float32Array(copies * size));
      const bound = (count: number) =>
        bind(
          Object.fromEntries(
            names.map((name, i) => {
              return [
                name,
                { data: arrays[i]!.subarray(0, count * size), shape: [count * B, K, S, D], dtype: "float32" },
              ];
            }),
          ),
        );
      await program.run(inputs, bound(1));
      for (const array of arrays) for (let copy = 1; copy < copies; copy++) array.copyWithin(copy * size, 0, size);
      return bound(copies);
    },
    dispose: () => program.dispose(),
  };
}
