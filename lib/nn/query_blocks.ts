// Attention by blocks of queries, as far as it doesn't matter what a block computes: which keys it attends to, and a backward pass
// that takes one block after the other, computes it a second time, and keeps nothing of it but what it adds to the gradients.

import { tf } from "../common/tf.ts";

import type { AttentionName } from "./choices.ts";
import { withGradient } from "./fused.ts";
import { controlDependency, RowSums } from "./in_order.ts";
import type { Parameter } from "./parameter.ts";
import { bound, gradients } from "./recompute.ts";
import { choiceAfter, choiceFrom, choiceOf, tensorsOf, type WeightDropout } from "./weight_dropout.ts";

/** Queries of one block, as a rule. A block looks only at the keys that it may see: no T x T matrix is ever made, and of the
 * products that the causal mask throws away only those on the diagonal are computed. */
export const BLOCK = 128;

/** Up to this many positions the backward pass takes the weights that the forward pass made. Beyond, it makes them
 * again, block by block: what is kept is then linear in T and not quadratic, for a sixth more products. */
export const KEEP_WEIGHTS = 512;

/** What `attention` may be; all give the same result. Over chunks of queries, whose attention weights are kept for the backward pass
 * where the text is short ("auto") or always recomputed there ("recompute": memory linear in T, as in Rabe and Staats 2021, but with
 * chunks of queries alone and an ordinary softmax); or with the whole matrix of weights ("dense"). */
const attentions: Readonly<Record<AttentionName, { keepWeights?: boolean }>> = {
  auto: {},
  recompute: { keepWeights: false },
  dense: {},
};

export interface BlockChoices {
  attention: AttentionName;
  attn_chunk: number; // queries of a block; 0 for the usual number
}

/** The arguments of `causalAttention` and `generalAttention` after the mask. */
export function blocksBy({
  attention,
  attn_chunk,
}: BlockChoices): [block: number | undefined, keepWeights: boolean | undefined] {
  return [attn_chunk || undefined, attentions[attention].keepWeights];
}

/** Queries from `from` to `end` - 1, and the ranges of keys that they look at: ascending, and none ends behind that of the
 * next block, nor begins there. */
export interface QueryBlock {
  from: number;
  end: number;
  ranges: readonly (readonly [from: number, end: number])[];
}

/** A block's result from queries [B, H, t, D], keys and values [B, K, s, D] and the queries' positions [t]; `drops` says which of the
 * block's weights are dropped, and `keyPaddingMask` of all keys which are padding. */
export type AttendBlock = (
  block: QueryBlock,
  inputs: readonly [queries: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, positions: tf.Tensor],
  drops: WeightDropout | undefined,
  keyPaddingMask: tf.Tensor | undefined,
) => tf.Tensor;

const WIDTHS = 8;

/**
 * Ends of ranges of keys, ascending, rounded up so that there are few different ones. The runtime lays values of one shape in
 * the same memory, which it keeps from the first of them to the last, from the first layer forward to the first layer back: for
 * every block, if each has a shape of its own. Nothing is rounded for up to 8 blocks; for 64, a ninth more products are computed.
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

/** What a block's result is made of. */
export const inputsOf = (block: QueryBlock, query: tf.Tensor, key: tf.Tensor, value: tf.Tensor) =>
  [rows(query, block.from, block.end), seen(key, block), seen(value, block), positionsOf(block)] as const;

/**
 * All blocks' results, joined, with nothing kept for the backward pass but the inputs: it attends again, block by block.
 * @param inputs queries [B, H, T, D], keys and values [B, K, S, D]
 * @param keyPaddingMask handed to `attend`
 * @param weights all that `attend` reads
 * @param drops dropout's choice, if there is one; made outside of this, since whoever computes the layer around it again needs it too
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

/** dy and what was saved -> the gradients of query, key, value and the weights. */
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

/** Sums of the blocks' gradients by their keys; of two ranges the first is summed apart. */
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
