// Attention through a cache, in place, against all positions at once. The choices' other ways are in layer_choices.test.ts.

import test from "node:test";

import * as tf from "@tensorflow/tfjs";

import { causalAttention, joinHeads, splitHeads } from "../../nn/attention.ts";
import { cachedAttention, type LayerCache } from "../../nn/cached_attention.ts";
import { assertClose, compiled, eager, evaluate, floats } from "../support.ts";

/** qkv of all positions at once, and then in pieces through a cache with room for S of them: the same. */
for (const D of [8, 4]) {
  for (const pieces of [[7], [3, 1, 1], [1, 1, 1, 1]]) {
    test(`in place, pieces of ${pieces}, heads of ${D}: equal to all at once, and the cache holds every key`, async () => {
      const [B, H, S] = [2, 3, 10];
      const C = H * D;
      const T = pieces.reduce((sum, piece) => sum + piece, 0);
      const all = floats(`qkv ${D} ${pieces}`, [B, T, 3 * C]);
      const whole = ([qkv]: tf.Tensor[]) => {
        const [q, k, v] = splitHeads(qkv!, H);
        return [joinHeads(causalAttention(q, k, v), H), tf.reshape(k, [B, H, T, D]), tf.reshape(v, [B, H, T, D])];
      };
      const [y, keys, values] = whole([tf.tensor(all.data as Float32Array, [B, T, 3 * C])]);
      const given = tf.tensor(all.data as Float32Array, [B, T, 3 * C]);
      for (const engine of [eager, compiled]) {
        let [key, value] = [new Float32Array(B * C * S), new Float32Array(B * C * S)];
        let known = 0;
        for (const t of pieces) {
          const qkv = tf.slice(given, [0, known, 0], [-1, t, -1]);
          const total = known + t;
          const numbers = (from: number, count: number) => Int32Array.from({ length: count }, (_, i) => from + i);
          const { values: results } = await evaluate(
            engine,
            ([qkv, key, value, positions, places, last, sum]) => {
              const cache: LayerCache = {
                key,
                value,
                positions: positions!,
                room: { places: places!, last: last!, total: sum! },
              };
              const y = cachedAttention(qkv, H, cache);
              return [y, cache.updated!.key, cache.updated!.value];
            },
            [
              { shape: [B, t, 3 * C], data: qkv.dataSync() as Float32Array },
              { shape: [B, H, S, D], data: key },
              { shape: [B, H, S, D], data: value },
              { shape: [t], data: numbers(known, t) },
              { shape: [S], data: numbers(0, S) },
              { shape: [B], data: new Int32Array(B).fill(total - 1) },
              { shape: [1], data: Int32Array.of(total) },
            ],
            { gradients: false },
          );
          const size = B * C;
          // scores of up to some 20, in single precision
          const expected = tf.slice(y!, [0, known, 0], [-1, t, -1]).dataSync();
          assertClose(results.subarray(0, size * t), expected, { atol: 1e-5, label: `y from ${known}` });
          [key, value] = [results.slice(size * t, size * (t + S)), results.slice(size * (t + S))];
          known = total;
        }
        for (const [held, expected] of [
          [key, keys!],
          [value, values!],
        ] as const) {
          const kept = tf.slice(tf.tensor(held, [B, H, S, D]), [0, 0, 0, 0], [-1, -1, T, -1]);
          assertClose(kept.dataSync(), expected.dataSync(), { atol: 0, label: "cache" });
        }
      }
    });
  }
}
