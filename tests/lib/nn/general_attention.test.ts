// Attention in blocks, with weights kept and made again, against PyTorch (tests/fixtures/layers) and against the whole matrix.

import assert from "node:assert/strict";
import { test } from "node:test";
import { keyOf, uniform } from "../../../lib/common/rng.ts";
import { tf } from "../../../lib/common/tf.ts";
import type { PositionName } from "../../../lib/nn/choices.ts";
import { type AttentionChoices, denseAttention, generalAttention } from "../../../lib/nn/general_attention.ts";
import { Scope } from "../../../lib/nn/module.ts";
import { Parameter } from "../../../lib/nn/parameter.ts";
import { type Position, positions } from "../../../lib/nn/position.ts";
import { withRecompute } from "../../../lib/nn/recompute.ts";
import type { GPTConfig } from "../../../model.ts";
import { layerFixture, layerIndex } from "../../fixtures/layers/read.ts";
import {
  assertClose,
  assertSameEvaluation,
  compiled,
  eager,
  evaluate,
  floats,
  type Operation,
  randomBatch,
  shaken,
} from "../../support.ts";

/** Sums of up to 40 products in single precision. */
const TOLERANCE = { atol: 1e-5, rtol: 1e-5 };

// ---- PyTorch's ---------------------------------------------------------------------------------------------------

const FIXTURES = [
  "causal",
  "gqa",
  "window",
  "window_one",
  "global",
  "strided",
  "strided_query",
  "softcap",
  "alibi_3",
  "alibi_6",
  "relative",
  "bidirectional",
  "cross",
  "encoder_global",
  "relative_bidirectional",
];

for (const name of FIXTURES.map((name) => `attention_${name}`)) {
  test(`${name}: values and gradients of ${layerIndex[name]!.reference}`, async () => {
    const { tensors, integers, config } = layerFixture(name);
    const S = tensors.get("key")!.shape[2]!;
    const [, n_head, T, D] = tensors.get("query")!.shape as [number, number, number, number];
    const weights: Parameter[] = [];
    const sizes = { n_head, n_embd: n_head * D, block_size: T, rope_theta: 1e4, rope_fraction: 1 };
    const given = { relative_buckets: 8, relative_max_distance: 12, ...config };
    const causal = ![...integers.get("allowed")!.data].some((seen, i) => seen && i % S > i / S);
    const Position = positions[(config.pos ?? "none") as PositionName];
    const position: Position = new Position(new Scope(weights), { ...sizes, ...given }, causal);
    const number = (key: string) => Number(config[key] ?? 0);
    const choices: AttentionChoices = {
      pattern: {
        ...{ causal, window: number("window"), global: number("attn_global") },
        ...{ stride: number("stride"), strideFrom: String(config.stride_from ?? "start") },
      },
      softcap: number("attn_softcap"),
      bias: position.bias && ((distance) => position.bias!(distance)),
      biasWeights: weights,
    };
    const variables = ["query", "key", "value"].map((name) => {
      const { shape, data } = tensors.get(name)!;
      const variable = new Parameter(`given ${name}`, shape, { constant: 0 });
      variable.data.set(data);
      return variable;
    });
    weights[0]?.data.set(tensors.get("relative")!.data);
    const d = tensors.get("d_out")!;
    for (const [label, attend] of Object.entries(forms(choices, 5))) {
      const out = () => attend(...(variables.map(({ value }) => value) as Three));
      for (const engine of [compiled, eager]) {
        const forward = await engine.program(out, { variables, inputs: {} });
        assertClose(await forward.run({}), tensors.get("out")!.data, { ...TOLERANCE, label });
        await forward.dispose();
        const weighed = () => tf.sum(tf.mul(out(), tf.tensor(d.data, [...d.shape])));
        const all = [...variables, ...weights];
        const backward = await engine.program(weighed, { variables: all, inputs: {}, gradients: true });
        await backward.run({});
        for (const [i, name] of ["query", "key", "value", "relative"].slice(0, all.length).entries()) {
          assertClose(all[i]!.grad!, tensors.get(`d_${name}`)!.data, { ...TOLERANCE, label: `${label}: d_${name}` });
        }
        await backward.dispose();
      }
    }
  });
}

// ---- the whole matrix --------------------------------------------------------------------------------------------

type Three = [tf.Tensor, tf.Tensor, tf.Tensor];

/** One function, computed in three ways. */
function forms(choices: AttentionChoices, block: number): Record<string, (...inputs: Three) => tf.Tensor> {
  return {
    dense: (...inputs) => denseAttention(...inputs, choices),
    "in blocks, weights kept": (...inputs) => generalAttention(...inputs, choices, 0, undefined, block, true),
    "in blocks, weights made again": (...inputs) => generalAttention(...inputs, choices, 0, undefined, block, false),
  };
}

/** One of the values, the same in every run. */
function draw<T>(values: readonly T[], ...key: (string | number)[]): T {
  return values[Math.floor(uniform(keyOf("attention", ...key), 0) * values.length)]!;
}

for (let index = 0; index < 16; index++) {
  const one = <T>(name: string, values: readonly T[]) => draw(values, index, name);
  const n_head = one("n_head", [2, 4]);
  const window = one("window", [0, 0, 1, 4, 30]);
  const choice = {
    n_head,
    n_embd: n_head * one("D", [4, 8]),
    n_layer: one("n_layer", [1, 2]),
    block_size: one("T", [12, 19]), // in blocks of 1, more than there are widths
    n_kv_head: one("n_kv_head", [0, 1, 2]),
    pos: one("pos", ["learned", "rotary", "alibi", "relative"]),
    ...{ relative_buckets: 8, relative_max_distance: 12 },
    window,
    attn_global: window && one("attn_global", [0, 3]),
    attn_stride: window && one("attn_stride", [0, 5]),
    attn_softcap: one("attn_softcap", [0, 2]),
    qk_norm: one("qk_norm", [true, false]),
  } satisfies Partial<GPTConfig>;
  const attn_chunk = one("block", [1, 2, 4, 5, 0]); // some divide T
  test(`loss and gradients of a model, blocks of ${attn_chunk}: ${JSON.stringify(choice)}`, async () => {
    const results: { loss: Float32Array; grads: Float32Array[]; label: string }[] = [];
    for (const attention of ["dense", "auto", "recompute"] as const) {
      const blocks = attention === "dense" ? 0 : attn_chunk;
      const model = shaken({ ...choice, attention, attn_chunk: blocks });
      for (const [name, engine] of Object.entries(attention === "dense" ? { eager } : { eager, compiled })) {
        for (const again of attention === "recompute" ? [false, true] : [false]) {
          const tokens = { shape: [2, model.config.block_size], dtype: "int32" } as const;
          const program = await engine.program(({ x, y }) => withRecompute(again, () => model.loss(x, y)), {
            variables: model.parameters,
            inputs: { x: tokens, y: tokens },
            gradients: true,
          });
          const loss = (await program.run(randomBatch(model, 2))).slice();
          const label = `${attention}, ${name}${again ? ", with checkpoints" : ""}`;
          results.push({ loss, grads: model.parameters.map(({ grad }) => grad!.slice()), label });
          await program.dispose();
        }
      }
    }
    const [dense, ...others] = results;
    for (const { loss, grads, label } of others) {
      assertClose(loss, dense!.loss, { atol: 3e-6, rtol: 1e-5, label });
      // gradients of up to 1, summed over 38 positions and two layers in single precision
      grads.forEach((grad, i) => {
        assertClose(grad, dense!.grads[i]!, { atol: 3e-5, rtol: 1e-4, label: `${label}: gradient ${i}` });
      });
    }
  });
}

for (const [what, pattern] of Object.entries({
  "all before": { causal: true, window: 0, global: 0, stride: 0, strideFrom: "start" },
  "a window": { causal: true, window: 4, global: 2, stride: 0, strideFrom: "start" },
  "a window either side": { causal: false, window: 4, global: 0, stride: 0, strideFrom: "start" },
})) {
  test(`dropout: the same weights are dropped in both passes and in any blocks, ${what}`, async () => {
    const args = [floats("query", [1, 2, 34, 3]), floats("key", [1, 1, 34, 3]), floats("value", [1, 1, 34, 3])];
    const choices = { pattern, softcap: 0 };
    const run =
      (block: number, keep: boolean, rate = 0.3): Operation =>
      ([query, key, value], mask) =>
        generalAttention(query, key, value, choices, rate, mask, block, keep);
    const dense: Operation = ([query, key, value], mask) => denseAttention(query, key, value, choices, 0.3, mask);
    const options = { dropout: [5] };
    const expected = await evaluate(eager, dense, args, options);
    for (const engine of [eager, compiled]) {
      for (const [block, keep] of [
        [3, false],
        [5, true],
      ] as const) {
        const actual = await evaluate(engine, run(block, keep), args, options);
        assertSameEvaluation(actual, expected, { ...TOLERANCE, label: `block ${block}, weights kept: ${keep}` });
      }
    }
    const without = await evaluate(eager, run(3, true, 0), args);
    assert.notDeepEqual(without.grads, expected.grads);
  });
}
