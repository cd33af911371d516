// Attention through a cache, in place: in pieces what it is to all positions at once, with every choice that the runtime's
// operator knows, is told of, or doesn't take. Whole models through their caches are in layer_choices.test.ts.

import assert from "node:assert/strict";
import test from "node:test";

import { tf } from "../../../lib/common/tf.ts";

import { trace } from "../../../lib/engine/trace.ts";
import { cachedAttention } from "../../../lib/nn/cached_attention.ts";
import type { PositionName } from "../../../lib/nn/choices.ts";
import type { LayerCache } from "../../../lib/nn/forward_args.ts";
import {
  type AttentionChoices,
  denseAttention,
  GPT2_ATTENTION,
  type Pattern,
} from "../../../lib/nn/general_attention.ts";
import { Scope } from "../../../lib/nn/module.ts";
import type { Parameter } from "../../../lib/nn/parameter.ts";
import { type Position, positions } from "../../../lib/nn/position.ts";
import { assertClose, compiled, eager, evaluate, floats, randomVariable } from "../../support.ts";

const B = 2;
const S = 10; // capacity of the cache

interface Case {
  D: number;
  H?: number;
  K?: number;
  pos?: PositionName;
  rope_fraction?: number;
  softcap?: number;
  pattern?: Partial<Pattern>;
  apart?: boolean; // queries, keys and values as three tensors
  operator?: boolean; // does the runtime's operator do it all?
}

const CASES: Record<string, Case> = {
  "GPT-2's": { D: 8 },
  "GPT-2's, of heads that the operator doesn't take": { D: 4, operator: false },
  "one head of keys": { D: 8, K: 1, apart: true },
  "rotary, two heads of keys": { D: 16, H: 4, K: 2, pos: "rotary" },
  "rotary, of three tensors": { D: 16, pos: "rotary", apart: true },
  "rotary, half of the channels": { D: 32, pos: "rotary", rope_fraction: 0.5 },
  "rotary, of heads that the operator doesn't turn": { D: 24, K: 1, pos: "rotary" },
  "rotary, of channels that the operator doesn't turn": { D: 16, pos: "rotary", rope_fraction: 0.25, apart: true },
  "rotary, window and cap": { D: 16, pos: "rotary", softcap: 3, pattern: { window: 3 } },
  "ALiBi, window": { D: 8, pos: "alibi", pattern: { window: 4 } },
  "relative, cap": { D: 8, pos: "relative", softcap: 3, K: 1 },
  "rotary, strided window": { D: 16, pos: "rotary", pattern: { window: 2, global: 1, stride: 3 } },
  "relative, strided from the query": { D: 8, pos: "relative", pattern: { window: 1, stride: 2, strideFrom: "query" } },
};

for (const [name, given] of Object.entries(CASES)) {
  const { D, H = 3, K = H, pos = "none", rope_fraction = 1, softcap = 0, pattern, apart = false } = given;
  const weights: Parameter[] = [];
  const sizes = { n_embd: H * D, n_head: H, block_size: S, relative_buckets: 8, relative_max_distance: 6 };
  const position: Position = new positions[pos]!(new Scope(weights), { ...sizes, rope_theta: 100, rope_fraction });
  for (const weight of weights) weight.data.set(randomVariable(name, weight.shape).data);
  const choices: AttentionChoices = {
    pattern: { ...GPT2_ATTENTION.pattern, ...pattern },
    softcap,
    bias: position.bias && ((distance) => position.bias!(distance)),
  };
  const C = (H + 2 * K) * D;
  const split = (qkv: tf.Tensor) => tf.split(qkv, [H * D, K * D, K * D], 2) as [tf.Tensor, tf.Tensor, tf.Tensor];
  const through = ([qkv, key, value, positions, keyPositions, last, total, ...table]: tf.Tensor[]) => {
    for (const [i, weight] of weights.entries()) weight.value = table[i]!;
    const slots = { keyPositions: keyPositions!, last: last!, total: total! };
    const cache: LayerCache = { key: key!, value: value!, positions: positions!, slots };
    const y = cachedAttention(apart ? split(qkv!) : [qkv!], cache, { H, K, choices, position });
    return [y, cache.updated!.key, cache.updated!.value];
  };

  for (const pieces of [[7], [3, 1, 1], [1, 1, 1, 1]]) {
    test(`${name}, pieces of ${pieces}: equal to all at once, and the cache holds every key`, async () => {
      const T = pieces.reduce((sum, piece) => sum + piece, 0);
      const all = floats(`qkv ${name}`, [B, T, C]);
      const qkv = tf.tensor(all.data as Float32Array, [B, T, C]);
      for (const weight of weights) weight.value = tf.tensor(weight.data, [...weight.shape]);
      const [query, key, value] = split(qkv).map((x) => tf.transpose(tf.reshape(x, [B, T, -1, D]), [0, 2, 1, 3]));
      const turn = (x: tf.Tensor) => position.turn?.(x, T) ?? x;
      const y = denseAttention(turn(query!), turn(key!), value!, choices);
      const expected = tf.reshape(tf.transpose(y, [0, 2, 1, 3]), [B, T, H * D]);
      const numbers = (from: number, count: number) => Int32Array.from({ length: count }, (_, i) => from + i);
      for (const engine of [eager, compiled]) {
        let [keys, values] = [new Float32Array(B * K * S * D), new Float32Array(B * K * S * D)];
        let known = 0;
        for (const t of pieces) {
          const rows = tf.slice(qkv, [0, known, 0], [-1, t, -1]);
          const total = known + t;
          const { values: results } = await evaluate(
            engine,
            through,
            [
              { shape: [B, t, C], data: rows.dataSync() as Float32Array },
              { shape: [B, K, S, D], data: keys },
              { shape: [B, K, S, D], data: values },
              { shape: [t], data: numbers(known, t) },
              { shape: [S], data: numbers(0, S) },
              { shape: [B], data: new Int32Array(B).fill(total - 1) },
              { shape: [1], data: Int32Array.of(total) },
              ...weights.map(({ shape, data }) => ({ shape, data })),
            ],
            { gradients: false },
          );
          const [own, held] = [B * t * H * D, B * K * S * D];
          const part = tf.slice(expected, [0, known, 0], [-1, t, -1]).dataSync();
          // scores of up to some 20, in single precision
          assertClose(results.subarray(0, own), part, { atol: 1e-5, label: `y from ${known}` });
          [keys, values] = [results.slice(own, own + held), results.slice(own + held)];
          known = total;
        }
        for (const [held, all, atol] of [
          [keys, turn(key!), position.turn ? 1e-6 : 0], // cosines and sines of two makes
          [values, value!, 0],
        ] as const) {
          const kept = tf.slice(tf.tensor(held, [B, K, S, D]), [0, 0, 0, 0], [-1, -1, T, -1]);
          assertClose(kept.dataSync(), all.dataSync(), { atol, label: "cache" });
        }
      }
    });
  }

  test(`${name}: ${given.operator === false ? "plain operations" : "one operator"}`, () => {
    const graph = trace((input) => {
      const floats = (name: string, shape: number[]) => input(name, shape, "float32");
      const ints = (name: string, shape: number[]) => input(name, shape, "int32");
      const cache = [floats("key", [B, K, S, D]), floats("value", [B, K, S, D]), ints("positions", [1])];
      const slots = [ints("keyPositions", [S]), ints("last", [B]), ints("total", [1])];
      const table = weights.map(({ name, shape }) => floats(name, [...shape]));
      return { y: through([floats("qkv", [B, 1, C]), ...cache, ...slots, ...table])[0]! };
    });
    const calls = graph.nodes.filter(({ kernel }) => kernel === "Fused").length;
    assert.equal(calls, given.operator === false ? 0 : 1);
  });
}
