// Attention maps against a twin that computes them number by number.

import assert from "node:assert/strict";
import test from "node:test";

import { tf } from "../../../lib/common/tf.ts";
import type { CausalSelfAttention, GPT, LayerNorm } from "../../../model.ts";
import { attentionMaps } from "../../../tools/plot/attention_maps.ts";
import { assertClose, shaken } from "../../support.ts";

const IDS = [3, 7, 0, 7, 10];

const firstBlock = ({ transformer }: GPT) =>
  transformer.blocks[0] as unknown as { ln1: LayerNorm; attn: CausalSelfAttention };

/** The first layer's weights [H, T, T], in plain loops over the model's numbers. */
function firstLayer(model: GPT, ids: readonly number[]): Float32Array {
  const { n_embd: C, n_head: H } = model.config;
  const [T, D] = [ids.length, C / H];
  const { ln1, attn } = firstBlock(model);
  const qkv = ids.map((id, t) => {
    const x = Array.from(
      { length: C },
      (_, c) => model.transformer.wte.data[id * C + c]! + model.transformer.wpe!.data[t * C + c]!,
    );
    const mean = x.reduce((sum, value) => sum + value, 0) / C;
    const variance = x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / C;
    const normal = x.map(
      (value, c) => ((value - mean) / Math.sqrt(variance + 1e-5)) * ln1.weight.data[c]! + ln1.bias!.data[c]!,
    );
    return Array.from({ length: 3 * C }, (_, j) =>
      normal.reduce((sum, value, c) => sum + value * attn.cAttn.weight.data[c * 3 * C + j]!, attn.cAttn.bias!.data[j]!),
    );
  });
  const map = new Float32Array(H * T * T);
  for (let h = 0; h < H; h++) {
    for (let i = 0; i < T; i++) {
      const exps: number[] = [];
      for (let j = 0; j <= i; j++) {
        let score = 0;
        for (let d = 0; d < D; d++) score += qkv[i]![h * D + d]! * qkv[j]![C + h * D + d]!;
        exps.push(Math.exp(score / Math.sqrt(D)));
      }
      const sum = exps.reduce((total, value) => total + value, 0);
      for (const [j, value] of exps.entries()) map[(h * T + i) * T + j] = value / sum;
    }
  }
  return map;
}

test("the first layer's equal those of loops over the weights; also with one token, and with block_size", () => {
  const model = shaken({});
  for (const ids of [IDS, [4], [1, 2, 3, 4, 5, 6]]) {
    // sums of 8 products of numbers around 1, in single precision
    assertClose(attentionMaps(model, ids)[0]!, firstLayer(model, ids), { atol: 1e-5, label: `${ids}` });
  }
});

test("in every layer rows are shares of 1, nothing lies ahead, and heads differ", () => {
  const model = shaken({ n_layer: 3, bias: false });
  const maps = attentionMaps(model, IDS);
  const T = IDS.length;
  assert.deepEqual(
    maps.map(({ length }) => length),
    [2 * T * T, 2 * T * T, 2 * T * T],
  );
  for (const map of maps) {
    for (let row = 0; row < 2 * T; row++) {
      const weights = map.subarray(row * T, (row + 1) * T);
      assert.ok(Math.abs(weights.reduce((sum, weight) => sum + weight, 0) - 1) < 1e-6); // of 5 roundings
      assert.ok(weights.subarray((row % T) + 1).every((weight) => weight === 0));
    }
    assert.notDeepEqual(map.subarray(0, T * T), map.subarray(T * T));
  }
  assert.notDeepEqual(maps[0], maps[1]);
});

test("they are the weights by which the model mixes values", () => {
  // one head, an identity for the values and for what follows: attention's result is map x normalised input
  const model = shaken({ n_layer: 1, n_head: 1 });
  const { ln1, attn } = firstBlock(model);
  const C = 8;
  for (let c = 0; c < C; c++) {
    for (let j = 0; j < C; j++) {
      attn.cAttn.weight.data[c * 3 * C + 2 * C + j] = Number(c === j);
      attn.cProj.weight.data[c * C + j] = Number(c === j);
    }
    attn.cAttn.bias!.data[2 * C + c] = 0;
    attn.cProj.bias!.data[c] = 0;
  }
  const map = attentionMaps(model, IDS)[0]!;
  const x = tf.add(
    tf.gather(model.transformer.wte.value, IDS),
    tf.slice(model.transformer.wpe!.value, [0, 0], [IDS.length, -1]),
  );
  const input = ln1.forward(tf.expandDims(x)); // [1, T, C]
  const mixed = tf.matMul(tf.tensor2d(map, [IDS.length, IDS.length]), tf.squeeze(input, [0]));
  assertClose(attn.forward(input).dataSync(), mixed.dataSync(), { atol: 1e-5, label: "values" }); // sums of 8
});

test("no tensors are left", () => {
  const model = shaken({});
  attentionMaps(model, IDS);
  const { numTensors } = tf.memory();
  attentionMaps(model, IDS);
  assert.equal(tf.memory().numTensors, numTensors);
});

test("of attention that was chosen otherwise: those of its own queries, keys and pattern", () => {
  // a limit far above every score changes nothing, but is computed the general way
  const plain = shaken({});
  const capped = shaken({ attn_softcap: 1e6 });
  for (const [i, map] of attentionMaps(capped, IDS).entries()) {
    assertClose(map, attentionMaps(plain, IDS)[i]!, { atol: 1e-4, label: `layer ${i}` }); // 1e6 tanh(x / 1e6) in float32
  }

  const window = 2;
  const model = shaken({ pos: "rotary", n_head: 2, n_kv_head: 1, window, qk_norm: true, norm: "rmsnorm" });
  const T = IDS.length;
  const maps = attentionMaps(model, IDS);
  assert.equal(maps.length, model.config.n_layer);
  for (const map of maps) {
    assert.equal(map.length, 2 * T * T);
    for (let row = 0; row < 2 * T; row++) {
      const weights = map.subarray(row * T, (row + 1) * T);
      assertClose([weights.reduce((sum, weight) => sum + weight, 0)], [1], { atol: 1e-6, label: "sum" });
      weights.forEach((weight, column) => {
        const distance = (row % T) - column;
        assert.equal(weight > 0, distance >= 0 && distance < window, `row ${row}, column ${column}`);
      });
    }
  }
});
