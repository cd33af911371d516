// Attention over blocks of queries, independent of what a block computes: the keys of each block, and a backward pass that recomputes one
// block after the other and keeps nothing but the gradients.

import { tf } from "../common/tf.ts";

import type { AttentionName } from "./choices.ts";
import { withGradient } from "./fused.ts";
import { controlDependency, RowSums } from "./in_order.ts";
import type { Parameter } from "./parameter.ts";
import { bound, gradients } from "./recompute.ts";
import { choiceAfter, choiceFrom, choiceOf, tensorsOf, type WeightDropout } from "./weight_dropout.ts";

/** Default number of queries in a block. A block computes only scores of keys that it may see: there is no T x T matrix, and of the masked
 * products only those on the diagonal are computed. */
export const BLOCK = 128;

/** Up to this many positions the backward pass reuses the attention weights of the forward pass. Beyond, it recomputes them block by block:
 * memory is then linear in T, not quadratic, for a sixth more products. */
export const KEEP_WEIGHTS = 512;

/** What `attention` may be; all give the same result. Over chunks of queries, whose attention weights are kept for the backward pass
 * if the text is short ("auto") or always recomputed there ("recompute": memory linear in T, as in Rabe and Staats 2021, but with
 * chunks of queries alone and an ordinary softmax); or with the whole matrix of weights ("dense"). */
const attentions: Readonly<Record<AttentionName, { keepWeights?: boolean }>> = {
  auto: {},
  recompute: { keepWeights: false },
  dense: {},
};

export interface BlockChoices {
  attention: AttentionName;
  attn_chunk: number; // queries in a block; 0 for BLOCK
}

/** The arguments of `causalAttention` and `generalAttention` after the mask. */
export function blocksBy({
  attention,
  attn_chunk,
}: BlockChoices): [block: number | undefined, keepWeights: boolean | undefined] {
  return [attn_chunk || undefined, attentions[attention].keepWeights];
}

/** Queries from `from` to `end` - 1, and the ranges of keys that they may see: ascending, and none begins or ends after that of the next
 * block. */
export interface QueryBlock {
  from: number;
  end: number;
  ranges: readonly (readonly [from: number, end: number])[];
}

/** A block's result from queries [B, H, t, D], keys and values [B, K, s, D] and the queries' positions [t]; `drops` is the dropout of
 * the block's weights, and `keyPaddingMask` that of all keys. */
export type AttendBlock = (
  block: QueryBlock,
  inputs: readonly [queries: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, positions: tf.Tensor],
  drops: WeightDropout | undefined,
  keyPaddingMask: tf.Tensor | undefined,
) => tf.Tensor;

const WIDTHS = 8;

/**
 * Ends of ranges of keys, ascending, rounded up to few distinct ones. The runtime reuses memory for values of one shape, and keeps it from
 * the first layer's forward pass to its backward pass: for every block, if each has its own shape. Nothing is rounded for up to 8
 * blocks; for 64, a ninth more products are computed.
 */
export function fewWidths(ends: readonly number[], block: number): number[] {
  const step = Math.ceil(ends.length / WIDTHS) * block;
  return ends.map((end) => Math.min(ends.at(-1)!, Math.ceil(end / step) * step));
}

const rows = (x: tf.Tensor, from: number, end: number) =>
  from === 0 && end === x.shape[2] ? x : tf.slice(x, [0, 0, from, 0], [-1, -1, end - from, -1]);
export const joined = (parts: tf.Tensor[], axis = 2) => (parts.length === 1 ? parts[0]! : tf.concat(parts, axis));

/** The keys, or values, that a block attends to. */
const seen = (x: tf.Tensor, { ranges }: QueryBlock) => joined(ranges.map(([a, b]) => rows(x, a, b)));

/** The positions of a block's queries: float [t]. */
const positionsOf = ({ from, end }: QueryBlock) => tf.range(from, end, 1, "float32");

/** The inputs of a block. */
export const inputsOf = (block: QueryBlock, query: tf.Tensor, key: tf.Tensor, value: tf.Tensor) =>
  [rows(query, block.from, block.end), seen(key, block), seen(value, block), positionsOf(block)] as const;

/**
 * All blocks' results, joined. Only the inputs are kept for the backward pass, which recomputes attention block by block.
 * @param inputs queries [B, H, T, D], keys and values [B, K, S, D]
 * @param keyPaddingMask passed to `attend`
 * @param weights all weights that `attend` reads
 * @param drops dropout's choice, if any; made by the caller, since a recomputation of the whole layer needs it too
 * @returns [B, H, T, D]
 */
export function attendAgain(
  inputs: readonly [tf.Tensor, tf.Tensor, tf.Tensor],
  keyPaddingMask: tf.Tensor | undefined,
  blocks: readonly QueryBlock[],
  weights: readonly Parameter[],
  drops: WeightDropout | undefined,
  attend: AttendBlock,
): tf.Tensor {
  const given = [...inputs, ...weights.map(({ value }) => value)];
  return withGradient(given, (query, key, value) => {
    const results = blocks.map((block) => {
      return attend(block, inputsOf(block, query!, key!, value!), drops && choiceOf(drops, block), keyPaddingMask);
    });
    return {
      value: joined(results),
      saved: [...given, ...(keyPaddingMask ? [keyPaddingMask] : []), ...tensorsOf(drops)],
      gradient(dy, saved) {
        const padding = keyPaddingMask && saved[given.length];
        const dropped = choiceFrom(drops, saved.slice(-2));
        return attendAgainGrad(dy, saved.slice(0, given.length), dropped, padding, blocks, weights, attend);
      },
    };
  });
}

/** dy and the saved tensors -> the gradients of query, key, value and the weights. */
function attendAgainGrad(
  dy: tf.Tensor,
  saved: tf.Tensor[],
  drops: WeightDropout | undefined,
  keyPaddingMask: tf.Tensor | undefined,
  blocks: readonly QueryBlock[],
  weights: readonly Parameter[],
  attend: AttendBlock,
): tf.Tensor[] {
  const [query, key, value, ...given] = saved as [tf.Tensor, tf.Tensor, tf.Tensor, ...tf.Tensor[]];
  const sums = { key: new RangeSums(), value: new RangeSums() };
  const dQueries: tf.Tensor[] = [];
  let dWeights: tf.Tensor[] = [];
  let done: tf.Tensor[] = [];
  for (const block of [...blocks].reverse()) {
    const [keys, values] = [seen(key, block), seen(value, block)];
    const [queries, dBlock, positions] = [
      rows(query, block.from, block.end),
      rows(dy, block.from, block.end),
      positionsOf(block),
    ].map((x) => controlDependency(x, done)) as [tf.Tensor, tf.Tensor, tf.Tensor];
    const dropped = drops && choiceAfter(choiceOf(drops, block), done);
    const again = ([queries, keys, values, ...given]: tf.Tensor[]) =>
      bound(weights, given, () => {
        return attend(block, [queries!, keys!, values!, positions], dropped, keyPaddingMask);
      });
    const [dQuery, dKeys, dValues, ...dGiven] = gradients(again, [queries, keys, values, ...given], dBlock);
    dQueries.unshift(dQuery!);
    sums.key.add(dKeys!, block);
    sums.value.add(dValues!, block);
    dWeights = dGiven.map((grad, i) => (dWeights[i] ? tf.add(dWeights[i], grad) : grad));
    done = [dQuery!, ...sums.key.pending, ...sums.value.pending, ...dWeights];
  }
  const S = key.shape[2]!;
  return [joined(dQueries), sums.key.total(S), sums.value.total(S), ...dWeights];
}

/** Sums of the blocks' gradients by key; with two ranges the first is summed separately. */
class RangeSums {
  readonly #first = new RowSums(2);
  readonly #last = new RowSums(2);

  add(part: tf.Tensor, { ranges }: QueryBlock): void {
    const counts = ranges.map(([from, end]) => end - from);
    const parts = counts.length === 1 ? [part] : tf.split(part, counts, 2);
    for (const [i, [from, end]] of ranges.entries()) {
      (i === ranges.length - 1 ? this.#last : this.#first).add(parts[i]!, from, end);
    }
  }

  get pending(): tf.Tensor[] {
    return [...this.#first.pending, ...this.#last.pending];
  }

  total(count: number): tf.Tensor {
    const sums = [this.#first, this.#last].filter(({ pending }) => pending.length > 0);
    return tf.addN(sums.map((sum) => sum.total(count)));
  }
}
