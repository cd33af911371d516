// The decoder with a KV cache: the keys and values of every position are kept, so a token costs one position's work. One
// compiled model serves the prefill, all tokens of the prompt at once, and then each token; it holds the weights once.
//
// The caches are arrays of this process, [B, H, S, D] each, with a capacity of S positions of which the first ones are used.
// They are both input and output of the model: it writes the new positions in place and copies nothing.

import type { GPT } from "../../model.ts";
import { tf } from "../common/tf.ts";
import type { Engine } from "../engine/runtime/program.ts";
import { type Bound, type Buffer, bind } from "../engine/runtime/session.ts";
import type { LayerCache } from "../nn/forward_args.ts";
import type { Decoder, DecoderWeights } from "./decoder.ts";
import { begin, createReader, memoryNames, type Reader } from "./source.ts";

const FIRST_CAPACITY = 64; // positions; doubled as needed

/** Compile the model for decoding, with its present weights.
 * @param end the token that begins a target, for a model trained on pairs */
export async function createCachedDecoder(
  engine: Engine,
  model: GPT,
  options: DecoderWeights = {},
  end?: number,
): Promise<Decoder> {
  const { n_layer, n_head, n_kv_head, n_embd, vocab_size: V, block_size } = model.config;
  const H = n_kv_head || n_head; // of keys and values
  const D = n_embd / n_head;
  const names = Array.from({ length: n_layer }, (_, i) => [`key.${i}`, `value.${i}`]).flat();
  const reader = model.transformer.encoder && (await createReader(engine, model, options));

  const program = await engine.frozen(
    ({ batch, length, capacity: S, source }, input) => {
      const [ids, positions] = [input("ids", [batch!, length!], "int32"), input("positions", [length!], "int32")];
      const slots = {
        keyPositions: input("keyPositions", [S!], "int32"),
        last: input("last", [batch!], "int32"),
        total: input("total", [1], "int32"),
      };
      const before = names.map((name) => input(name, [batch!, H, S!, D], "float32"));
      const read = reader && memoryNames(n_layer).map((name) => input(name, [batch!, H, source!, D], "float32"));
      const caches = Array.from({ length: n_layer }, (_, i): LayerCache => {
        const cache = { key: before[2 * i]!, value: before[2 * i + 1]!, positions, slots };
        return read ? { ...cache, source: { key: read[2 * i]!, value: read[2 * i + 1]! } } : cache;
      });
      const x = model.forward(ids, { positions, caches });
      const end = tf.gather(x, input("end", [1], "int32"), 1); // [B, 1, C]
      const after = caches.flatMap(({ updated }) => [updated!.key, updated!.value]);
      const results = Object.fromEntries(names.map((name, i) => [`new.${name}`, after[i]!]));
      return { logits: tf.reshape(model.head(end), [batch!, V]), ...results };
    },
    { ...options, weights: model.parameters, sizes: ["batch", "length", "capacity", ...(reader ? ["source"] : [])] },
  );

  /** The caches of B sequences, with everything that is bound to them. */
  class Memory {
    length = 0; // positions so far
    source: Bound = {}; // keys and values of the source, if any
    readonly logits: Float32Array;
    readonly arrays: Float32Array[];
    readonly #inputs: Bound;
    readonly #outputs: Bound;
    readonly #last: Int32Array;
    readonly #total = new Int32Array(1);
    readonly B: number;
    readonly capacity: number;
    readonly #step: ReturnType<Memory["tokens"]>; // for one token each

    constructor(B: number, capacity: number) {
      [this.B, this.capacity] = [B, capacity];
      this.logits = new Float32Array(B * V);
      this.arrays = names.map(() => new Float32Array(B * H * capacity * D));
      this.#last = new Int32Array(B);
      const caches = this.arrays.map((data): Buffer => ({ data, shape: [B, H, capacity, D], dtype: "float32" }));
      const tensors = bind(Object.fromEntries(names.map((name, i) => [name, caches[i]!])));
      const keyPositions = Int32Array.from({ length: capacity }, (_, i) => i);
      this.#inputs = {
        ...tensors,
        ...bind({
          keyPositions: { data: keyPositions, shape: [capacity], dtype: "int32" },
          last: { data: this.#last, shape: [B], dtype: "int32" },
          total: { data: this.#total, shape: [1], dtype: "int32" },
        }),
      };
      this.#outputs = {
        ...bind({ logits: { data: this.logits, shape: [B, V], dtype: "float32" } }),
        ...Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [`new.${name}`, tensor])),
      };
      this.#step = this.tokens(1);
    }

    /** Arrays for T new tokens a sequence. */
    tokens(T: number) {
      const [ids, positions] = [new Int32Array(this.B * T), new Int32Array(T)];
      const bound = bind({
        ids: { data: ids, shape: [this.B, T], dtype: "int32" },
        positions: { data: positions, shape: [T], dtype: "int32" },
        end: { data: Int32Array.of(T - 1), shape: [1], dtype: "int32" },
      });
      return { ids, positions, bound };
    }

    /** Run T tokens a sequence, [B * T], after those so far; the logits of the token after the last. */
    async run(given: ArrayLike<number>): Promise<Float32Array> {
      const T = given.length / this.B;
      const { ids, positions, bound } = T === 1 ? this.#step : this.tokens(T);
      ids.set(given);
      for (let i = 0; i < T; i++) positions[i] = this.length + i;
      this.length += T;
      this.#last.fill(this.length - 1);
      this.#total[0] = this.length;
      await program.run({ ...this.#inputs, ...this.source, ...bound }, this.#outputs);
      return this.logits;
    }

    /** The same in another size: each sequence of ours `copies` times, with a larger capacity. */
    grown(copies: number, capacity: number): Memory {
      const memory = new Memory(this.B * copies, capacity);
      [memory.length, memory.source] = [this.length, this.source];
      for (let copy = 0; copy < copies; copy++) memory.logits.set(this.logits, copy * this.logits.length);
      for (const [i, cache] of this.arrays.entries()) {
        for (let row = 0; row < memory.B * H; row++) {
          const from = (row % (this.B * H)) * this.capacity * D;
          memory.arrays[i]!.set(cache.subarray(from, from + this.length * D), row * capacity * D);
        }
      }
      return memory;
    }
  }

  let sequences: number[][] = [];
  let memory: Memory;

  /** Read the sources, of which all may be the same, and begin a target for each. */
  async function write(reader: Reader, same = false): Promise<Float32Array> {
    const begun = sequences.map((tokens) => begin(tokens, block_size, end));
    memory = new Memory(sequences.length, Math.min(block_size, FIRST_CAPACITY));
    const distinct = begun.slice(0, same ? 1 : undefined).map(({ source }) => source);
    memory.source = await reader.read(distinct, begun.length / distinct.length);
    return memory.run(begun.flatMap(({ text }) => text));
  }

  return {
    vocabSize: V,

    async start(prompt, copies) {
      if (prompt.length === 0) throw new Error("a prompt has at least one token");
      sequences = Array.from({ length: copies }, () => [...prompt]);
      if (reader) return write(reader, true);
      const window = prompt.slice(-block_size);
      memory = new Memory(
        1,
        Math.min(block_size, Math.max(FIRST_CAPACITY, 2 ** Math.ceil(Math.log2(window.length + 1)))),
      );
      await memory.run(window);
      if (copies > 1) memory = memory.grown(copies, memory.capacity);
      return memory.logits;
    },

    async next(tokens) {
      if (tokens.length !== sequences.length) {
        throw new Error(`${tokens.length} tokens for ${sequences.length} sequences`);
      }
      for (const [i, sequence] of sequences.entries()) sequence.push(tokens[i]!);
      if (memory.length === block_size) {
        if (reader) return write(reader);
        // the window slides: every token has another position now, so no kept key or value is still right
        memory.length = 0;
        return memory.run(sequences.flatMap((sequence) => sequence.slice(-block_size)));
      }
      if (memory.length === memory.capacity) memory = memory.grown(1, Math.min(block_size, 2 * memory.capacity));
      return memory.run(tokens);
    },

    async dispose() {
      await reader?.dispose();
      await program.dispose();
    },
  };
}
