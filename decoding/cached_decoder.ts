// The decoder that remembers: keys and values of every position are kept, so a token costs one position's work. One
// compiled model serves the prompt, all its tokens at once, and then each token; it holds the weights once.
//
// The caches are arrays of this process, [B, H, S, D] each, with room for S positions of which the first ones are used: the
// model reads them where they are and gives back what is new, which is written into its place. Room is doubled as needed.

import * as tf from "@tensorflow/tfjs";

import type { FrozenOptions } from "../engine/frozen.ts";
import type { Engine } from "../engine/program.ts";
import { type Bound, bind } from "../engine/session.ts";
import type { GPT } from "../model.ts";
import type { Decoder } from "./decoder.ts";

const FIRST_ROOM = 64; // positions
const HIDDEN = -1e30; // added to a score: its exponential is 0

export interface CachedDecoderOptions {
  int8?: boolean; // matrices in 8 bits
  place?: FrozenOptions["place"]; // where a file has the weights: they are then taken from there
}

/** Compile the model for decoding, with the weights of now. */
export async function createCachedDecoder(
  engine: Engine,
  model: GPT,
  { int8 = false, place }: CachedDecoderOptions = {},
): Promise<Decoder> {
  const { n_layer, n_head: H, n_embd, vocab_size: V, block_size } = model.config;
  const D = n_embd / H;
  const layers = Array.from({ length: n_layer }, (_, i) => [`${i}.key`, `${i}.value`]).flat();

  const program = await engine.frozen(
    ({ batch, length, past }, input) => {
      const [B, T, S] = [batch!, length!, past!];
      const ids = input("ids", [B, T], "int32");
      const positions = input("positions", [T], "int32");
      const hidden = input("hidden", [S], "float32");
      const caches = layers.map((name) => tf.reshape(input(`past.${name}`, [B, H, S, D], "float32"), [B * H, S, D]));
      const pairs = Array.from({ length: n_layer }, (_, i) => ({ key: caches[2 * i]!, value: caches[2 * i + 1]! }));
      const { x, added } = model.cachedForward(ids, positions, pairs, hidden);
      const last = tf.gather(x, input("at", [1], "int32"), 1); // [B, 1, C]
      const news = added.flatMap(({ key, value }) => [key, value]).map((rows) => tf.reshape(rows, [B, H, T, D]));
      const results = Object.fromEntries(layers.map((name, i) => [`new.${name}`, news[i]!]));
      return { logits: tf.reshape(model.head(last), [B, V]), ...results };
    },
    { weights: model.parameters, place, sizes: ["batch", "length", "past"], int8 },
  );

  let sequences: number[][] = [];
  let known = 0; // positions in the caches
  let room = 0; // S
  let caches: Float32Array[] = [];
  let logits = new Float32Array();
  let hidden = new Float32Array();
  let step: { inputs: Bound; outputs: Bound; ids: Int32Array; position: Int32Array; news: Float32Array[] };

  const cacheInputs = (arrays: Float32Array[], B: number, S: number) =>
    layers.map((name, i) => [`past.${name}`, { data: arrays[i]!, shape: [B, H, S, D], dtype: "float32" as const }]);
  const newOutputs = (arrays: Float32Array[], B: number, T: number) =>
    layers.map((name, i) => [`new.${name}`, { data: arrays[i]!, shape: [B, H, T, D], dtype: "float32" as const }]);

  /** Give the caches room for `size` positions of B sequences. */
  function grow(size: number, B: number): void {
    const grown = layers.map(() => new Float32Array(B * H * size * D));
    for (const [i, cache] of caches.entries()) {
      for (let row = 0; row < B * H; row++) {
        grown[i]!.set(cache.subarray(row * room * D, (row * room + known) * D), row * size * D);
      }
    }
    caches = grown;
    room = size;
    hidden = new Float32Array(room).fill(HIDDEN).fill(0, 0, known);
    const [ids, position] = [new Int32Array(B), new Int32Array(1)];
    const news = layers.map(() => new Float32Array(B * H * D));
    const inputs = bind({
      ids: { data: ids, shape: [B, 1], dtype: "int32" },
      positions: { data: position, shape: [1], dtype: "int32" },
      hidden: { data: hidden, shape: [room], dtype: "float32" },
      at: { data: new Int32Array(1), shape: [1], dtype: "int32" },
      ...Object.fromEntries(cacheInputs(caches, B, room)),
    });
    const outputs = bind({
      logits: { data: logits, shape: [B, V], dtype: "float32" },
      ...Object.fromEntries(newOutputs(news, B, 1)),
    });
    step = { inputs, outputs, ids, position, news };
  }

  /** Run whole sequences of the same length, B of them; with `news`, keep their keys and values there. */
  async function runAll(ids: number[][], into: Float32Array, news?: Float32Array[]): Promise<void> {
    const [B, T] = [ids.length, ids[0]!.length];
    const nothing = layers.map(() => new Float32Array(B * H * D)); // one place, hidden
    const inputs = bind({
      ids: { data: Int32Array.from(ids.flat()), shape: [B, T], dtype: "int32" },
      positions: { data: Int32Array.from({ length: T }, (_, i) => i), shape: [T], dtype: "int32" },
      hidden: { data: Float32Array.of(HIDDEN), shape: [1], dtype: "float32" },
      at: { data: Int32Array.of(T - 1), shape: [1], dtype: "int32" },
      ...Object.fromEntries(cacheInputs(nothing, B, 1)),
    });
    const outputs = bind({
      logits: { data: into, shape: [B, V], dtype: "float32" },
      ...(news ? Object.fromEntries(newOutputs(news, B, T)) : {}),
    });
    await program.run(inputs, outputs);
  }

  /** Write rows [B, H, count, D] of the last positions into the caches. With one sequence given, into all B of them. */
  function remember(news: Float32Array[], given: number, B: number, count: number): void {
    for (const [i, rows] of news.entries()) {
      for (let row = 0; row < B * H; row++) {
        const from = row % (given * H);
        caches[i]!.set(rows.subarray(from * count * D, (from + 1) * count * D), (row * room + known) * D);
      }
    }
    hidden.fill(0, known, known + count);
    known += count;
  }

  return {
    vocabSize: V,

    async start(prompt, copies) {
      if (prompt.length === 0) throw new Error("a prompt has at least one token");
      sequences = Array.from({ length: copies }, () => [...prompt]);
      const window = prompt.slice(-block_size);
      const T = window.length;
      logits = new Float32Array(copies * V);
      const news = layers.map(() => new Float32Array(H * T * D));
      await runAll([window], logits.subarray(0, V), news);
      for (let copy = 1; copy < copies; copy++) logits.copyWithin(copy * V, 0, V);
      [caches, known] = [[], 0];
      grow(Math.min(block_size, Math.max(FIRST_ROOM, 2 ** Math.ceil(Math.log2(T + 1)))), copies);
      remember(news, 1, copies, T);
      return logits;
    },

    async next(tokens) {
      const B = sequences.length;
      if (tokens.length !== B) throw new Error(`${tokens.length} tokens for ${B} sequences`);
      for (const [i, sequence] of sequences.entries()) sequence.push(tokens[i]!);
      if (known === block_size) {
        // the window slides: every token has another position now, so nothing that was kept is still right
        await runAll(
          sequences.map((sequence) => sequence.slice(-block_size)),
          logits,
        );
        return logits;
      }
      if (known === room) grow(Math.min(block_size, 2 * room), B);
      step.ids.set(tokens);
      step.position[0] = known;
      await program.run(step.inputs, step.outputs);
      remember(step.news, B, B, 1);
      return logits;
    },

    dispose: () => program.dispose(),
  };
}
