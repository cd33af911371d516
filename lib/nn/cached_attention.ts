// Attention with a KV cache: new positions attend to those in the cache, and are added to it. A plain form supports every choice; an
// operator of the runtime updates the cache in place.

import { tf } from "../common/tf.ts";

import type { CacheSlots, LayerCache } from "./forward_args.ts";
import { type FusedKernel, fused } from "./fused.ts";
import { type AttentionChoices, attend, GPT2_ATTENTION, scoreBias } from "./general_attention.ts";
import { mergeHeads, type Qkv, repeatHeads, splitHeads } from "./heads.ts";
import type { Position } from "./position.ts";
import type { AttentionFormula } from "./textbook.ts";

export interface CachedOptions {
  H: number; // heads of queries
  K?: number; // heads of keys and values; H if not given
  choices?: AttentionChoices; // GPT-2's if not given
  formula?: AttentionFormula | undefined; // in place of `choices`
  fused?: boolean; // does the operator compute the same? true if not given
  position?: Position; // which may rotate queries and keys
}

/**
 * Attention of T new positions to those in the cache and to themselves. For sampling: the operator has no gradient.
 * @param rows queries, keys and values of all heads side by side, [B, T, (H + 2 K) D]; or each of them, [B, T, H D] and twice
 *   [B, T, K D]
 * @returns [B, T, H D]
 */
export function cachedAttention(
  rows: readonly [tf.Tensor] | Qkv,
  cache: LayerCache,
  options: CachedOptions,
): tf.Tensor {
  const { H, K = H, choices = GPT2_ATTENTION, formula, fused: mayFuse = true, position = {} } = options;
  const { slots, positions } = cache;
  const attention: AttentionFormula = (query, key, value, at, from) =>
    formula
      ? formula(query, repeatHeads(key, H), repeatHeads(value, H), at, from)
      : attend(query, key, value, at, from, choices);
  const turn = ([query, key, value]: Qkv): Qkv =>
    position.turn ? [position.turn(query, positions), position.turn(key, positions), value] : [query, key, value];
  if (slots) {
    const common = { H, K, choices, attention, mayFuse };
    const table = position.turnTable && fitsTable(cache, position.turnTable()) ? position.turnTable() : undefined;
    if (!position.turn || table) return attendInPlace(rows, cache, slots, { ...common, turn, table });
    const turned = turn(headsOf(rows, H, K)).map(mergeHeads) as unknown as Qkv; // the operator can't rotate these
    return attendInPlace(turned, cache, slots, { ...common, turn: (three) => three, table });
  }
  const [query, key, value] = turn(headsOf(rows, H, K));
  const [keys, values] = [tf.concat([cache.key, key], 2), tf.concat([cache.value, value], 2)];
  cache.updated = { key: keys, value: values };
  // counted by adding ones, so that no constant depends on their number: an exported model serves any
  const keyPositions = tf.cumsum(tf.ones([keys.shape[2]!]), 0, true);
  return mergeHeads(attention(query, keys, values, tf.cast(positions, "float32"), keyPositions));
}

type Table = readonly [cos: tf.Tensor, sin: tf.Tensor];

interface InPlace {
  H: number;
  K: number;
  choices: AttentionChoices;
  attention: AttentionFormula;
  mayFuse: boolean;
  turn: (three: Qkv) => Qkv;
  table: Table | undefined; // the angles of `turn`
}

function attendInPlace(rows: readonly tf.Tensor[], cache: LayerCache, slots: CacheSlots, options: InPlace): tf.Tensor {
  const { choices, table } = options;
  const { keyPositions, last, total } = slots;
  const bias = beyondOperator(choices) ? scoreBias(choices, cache.positions, keyPositions) : undefined;
  const given = [...rows, cache.key, cache.value, cache.positions, keyPositions, last, total, ...(table ?? []), bias];
  const kernel = inPlace(rows.length, options);
  const inputs = given.filter((tensor) => tensor !== undefined);
  const fits = options.mayFuse && cache.key.shape[3]! % 8 === 0; // a requirement of the operator
  const [y, key, value] = (fits ? fused(kernel, inputs) : kernel.plain(inputs, {})) as [
    tf.Tensor,
    tf.Tensor,
    tf.Tensor,
  ];
  cache.updated = { key, value };
  return y;
}

/** The operator supports windows and caps; biases and other patterns are added to the scores. */
const beyondOperator = ({ bias, pattern }: AttentionChoices) => !!bias || pattern.global > 0 || pattern.stride > 0;

/** The operator rotates multiples of 16 channels, in heads of such a size. */
const fitsTable = ({ key }: LayerCache, [cos]: Table) => key.shape[3]! % 16 === 0 && cos.shape[1]! % 8 === 0;

/** Rows as in `cachedAttention` -> [B, H, T, D] and twice [B, K, T, D] */
function headsOf(rows: readonly tf.Tensor[], H: number, K: number): Qkv {
  const D = rows[0]!.shape[2]! / (H + 2 * K);
  const [query, key, value] = rows.length === 1 ? tf.split(rows[0]!, [H * D, K * D, K * D], 2) : rows;
  return [splitHeads(query!, H), splitHeads(key!, K), splitHeads(value!, K)];
}

/** New rows [B, K, T, D] at `positions` [T] into the cache [B, K, S, D], whose keyPositions are [S]; and attention to it. */
function putAndAttend(
  [query, key, value]: Qkv,
  [oldKey, oldValue, positions, keyPositions]: readonly tf.Tensor[],
  attention: AttentionFormula,
): [tf.Tensor, tf.Tensor, tf.Tensor] {
  const [T, S] = [positions!.size, keyPositions!.size];
  const [B, K] = oldKey!.shape as [number, number];
  const is = tf.cast(tf.equal(tf.reshape(keyPositions!, [1, S]), tf.reshape(positions!, [T, 1])), "float32"); // [T, S]
  const old = tf.reshape(tf.sub(1, tf.sum(is, 0)), [S, 1]);
  const spread = tf.broadcastTo(tf.reshape(is, [1, 1, T, S]), [B, K, T, S]);
  const put = (cache: tf.Tensor, rows: tf.Tensor) => tf.add(tf.mul(cache, old), tf.matMul(spread, rows, true));
  const [newKey, newValue] = [put(oldKey!, key), put(oldValue!, value)];
  const [at, of] = [tf.cast(positions!, "float32"), tf.cast(keyPositions!, "float32")];
  return [attention(query, newKey, newValue, at, of), newKey, newValue];
}

/**
 * `count` rows (1 or 3, as in `cachedAttention`), key, value, positions, keyPositions, last, total (as in LayerCache), the table, a bias
 * of the scores -> y [B, T, H D] and the updated cache: bound to the arrays of the old one, so that only the new rows are
 * written.
 */
const inPlace = (count: number, { H, K, choices, attention, turn, table }: InPlace): FusedKernel => ({
  name: "InPlaceAttention",
  plain(inputs) {
    const three = turn(headsOf(inputs.slice(0, count), H, K));
    const [y, key, value] = putAndAttend(three, inputs.slice(count), attention);
    return [mergeHeads(y), key, value];
  },
  lower(g, inputs, _, { inputs: shapes }) {
    const rows = count === 1 ? [inputs[0]!, "", ""] : inputs.slice(0, 3);
    const [key, value, , , last, total, ...more] = inputs.slice(count) as string[];
    const [cos = "", sin = ""] = table ? more.splice(0, 2) : [];
    const given = [...rows, key!, value!, last!, total!, cos, sin, "", ...more.map((bias) => seen(bias))];
    const { pattern, softcap } = choices;
    const attrs = {
      num_heads: H,
      kv_num_heads: K,
      ...(table && { do_rotary: 1 }),
      ...(pattern.window > 0 && more.length === 0 && { local_window_size: pattern.window }),
      ...(softcap > 0 && { softcap: { float: softcap } }),
    };
    while (given.at(-1) === "") given.pop();
    return g.emitMany(3, "GroupQueryAttention", given, attrs, "com.microsoft");

    /** A bias [heads, T, S] of the positions so far. */
    function seen(bias: string): string {
      const [n, T, S] = shapes!.at(-1) as [number, number, number];
      const whole = g.emit("Reshape", [bias, g.ints([1, n, T, S])]);
      return g.emit("Slice", [whole, g.ints([0]), g.emit("Cast", [total!], { to: 7 }), g.ints([3])]); // 7: int64
    }
  },
});
