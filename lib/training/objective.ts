// The training objective of each architecture: the inputs of a micro-batch, and how they are sampled from a token file. Each row is a
// function of its key, so a run can be repeated or resumed anywhere.

import { UserError } from "../common/errors.ts";
import { type Key, keyOf, uniform } from "../common/rng.ts";
import type { Pairs } from "../text/meta.ts";
import { type BatchShape, sampleBatch, sampleRows, type TokenFile } from "../text/token_file.ts";

/** The arrays of a batch, by the names of the model's inputs; x and y are always present. */
export type InputName = "x" | "y" | "masked_positions" | "source" | "source_length";
export type Batch = Record<InputName, Int32Array>;

export interface Objective {
  /** Inputs of a batch, with their shapes. */
  readonly inputs: Record<InputName, { shape: number[]; dtype: "int32" }>;
  /** How many times T tokens a row reads from a file. */
  readonly spans: number;
  /** Rows number first, first + 1, ... of the stream `key` -> `into`. */
  draw(file: TokenFile, key: Key, first: number, into: Batch): void;
}

export interface ObjectiveOptions extends BatchShape {
  vocab_size: number; // of the model
  mask_fraction: number; // share of an encoder's tokens that are masked
  pairs: Pairs | undefined; // if the dataset consists of them
}

/** The objective of an `architecture`.
 * @throws UserError if the dataset's pairs don't have the length T, or the architecture can't read pairs */
export function createObjective(architecture: string, options: ObjectiveOptions): Objective {
  const { T, pairs } = options;
  if (pairs && architecture !== "encoder_decoder") {
    throw new UserError(`the dataset consists of pairs; take --architecture=encoder_decoder, or another dataset`);
  }
  if (pairs && pairs.length !== T) {
    throw new UserError(`the dataset's pairs have ${pairs.length} tokens each; take --block_size=${pairs.length}`);
  }
  if (architecture === "encoder") return maskedTokens(options);
  if (architecture === "encoder_decoder") return pairs ? paired(options, pairs) : continuation(options);
  return nextToken(options);
}

/** Extra tokens of an architecture's vocabulary: an encoder's last one is the mask token. */
export const extraTokens = (architecture = "decoder") => (architecture === "encoder" ? 1 : 0);

/** An empty batch. */
export function emptyBatch({ inputs }: Objective): Batch {
  const arrays = Object.entries(inputs).map(([name, { shape }]) => [
    name,
    new Int32Array(shape.reduce((a, b) => a * b)),
  ]);
  return Object.fromEntries(arrays) as Batch;
}

function specs(shapes: Partial<Record<InputName, number[]>>): Objective["inputs"] {
  const all = Object.entries(shapes).map(([name, shape]) => [name, { shape, dtype: "int32" }]);
  return Object.fromEntries(all) as Objective["inputs"];
}

/** A decoder's: T tokens x, and the token after each of them, y. */
function nextToken({ B, T }: ObjectiveOptions): Objective {
  return {
    inputs: specs({ x: [B, T], y: [B, T] }),
    spans: 1,
    draw: (file, key, first, { x, y }) => sampleBatch(file, { B, T }, (row) => uniform(key, first + row), x, y),
  };
}

/**
 * An encoder's, MLM (BERT, Devlin et al. 2019, section 3.1): of T tokens a fixed number M is predicted, a share of `mask_fraction`.
 * In x, 80 % of those are the mask token, 10 % a random one and 10 % unchanged; y has the original ones, and `masked_positions` their
 * positions in the row.
 */
function maskedTokens({ B, T, vocab_size, mask_fraction }: ObjectiveOptions): Objective {
  const count = Math.max(1, Math.round(mask_fraction * T));
  const mask = vocab_size - 1;
  const order = new Int32Array(T);
  return {
    inputs: specs({ x: [B, T], y: [B, count], masked_positions: [B, count] }),
    spans: 1,
    draw(file, key, first, { x, y, masked_positions }) {
      sampleRows(file, { B, T }, (row) => uniform(key, first + row), x);
      for (let row = 0; row < B; row++) {
        const random = keyOf(...key, "mask", first + row);
        for (let i = 0; i < T; i++) order[i] = i;
        for (let i = 0; i < count; i++) {
          const other = i + Math.floor(uniform(random, 3 * i) * (T - i)); // one of those not chosen yet
          [order[i], order[other]] = [order[other]!, order[i]!];
          const at = row * T + order[i]!;
          masked_positions[row * count + i] = order[i]!;
          y[row * count + i] = x[at]!;
          const kind = uniform(random, 3 * i + 1);
          if (kind < 0.8) x[at] = mask;
          else if (kind < 0.9) x[at] = Math.floor(uniform(random, 3 * i + 2) * mask);
        }
      }
    },
  };
}

/** An encoder-decoder's without pairs: T tokens are the source, and the next T the target. */
function continuation({ B, T }: ObjectiveOptions): Objective {
  const all = new Int32Array(B * 2 * T);
  return {
    inputs: specs({ x: [B, T], y: [B, T], source: [B, T], source_length: [B] }),
    spans: 2,
    draw(file, key, first, { x, y, source, source_length }) {
      sampleRows(file, { B, T: 2 * T }, (row) => uniform(key, first + row), all);
      source_length.fill(T);
      for (let row = 0; row < B; row++) {
        const start = 2 * T * row;
        source.set(all.subarray(start, start + T), row * T);
        x.set(all.subarray(start + T - 1, start + 2 * T - 1), row * T); // from the source's last token on
        y.set(all.subarray(start + T, start + 2 * T), row * T);
      }
    },
  };
}

/**
 * An encoder-decoder's with pairs: of 2 T tokens the first T are the source and the others the target, each padded with `end`. x
 * begins with `end`, y ends with one, and the padding after it doesn't count.
 */
function paired({ B, T }: ObjectiveOptions, { end }: Pairs): Objective {
  const pair = new Int32Array(2 * T);
  return {
    inputs: specs({ x: [B, T], y: [B, T], source: [B, T], source_length: [B] }),
    spans: 2,
    draw(file, key, first, { x, y, source, source_length }) {
      const count = Math.floor(file.length / (2 * T));
      for (let row = 0; row < B; row++) {
        file.read(2 * T * Math.floor(uniform(key, first + row) * count), 2 * T, pair);
        source.set(pair.subarray(0, T), row * T);
        const length = pair.indexOf(end);
        source_length[row] = length < 0 || length > T ? T : length;
        const target = pair.subarray(T);
        const stop = target.indexOf(end);
        const written = stop < 0 ? T : stop + 1; // with the end
        x[row * T] = end;
        x.set(target.subarray(0, T - 1), row * T + 1);
        y.fill(-1, row * T, (row + 1) * T).set(target.subarray(0, written), row * T);
      }
    },
  };
}
