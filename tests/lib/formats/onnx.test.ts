// The exported ONNX model, run by ONNX Runtime here: the model's own logits for any batch and length, at once and piece by
// piece with its cache; weights inside and beside it. Python's checker and runtime: tests/export_python.test.ts.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { type Buffer, bind, Session } from "../../../lib/engine/runtime/session.ts";
import { writeOnnx } from "../../../lib/formats/onnx.ts";
import type { GPTConfig } from "../../../model.ts";
import { temporaryFolder } from "../../scripts.ts";
import { assertClose, eager, randomInts, shaken } from "../../support.ts";

const CONFIGS: Partial<GPTConfig>[] = [
  {},
  { bias: false, ffn: "gelu_tanh", n_head: 1, tie_weights: false },
  { n_layer: 1, ffn: "silu", vocab_size: 103, n_embd: 202 }, // the sizes that sizes.ts tries first are taken
];
for (const most of [1e9, 0]) {
  for (const config of CONFIGS) {
    test(`the model's logits, weights ${most ? "inside" : "beside it"}: ${JSON.stringify(config)}`, async () => {
      const model = shaken({ block_size: 16, ...config });
      const { n_layer, n_head: H, n_embd, vocab_size: V } = model.config;
      const folder = temporaryFolder();
      await writeOnnx(model, undefined, folder, most);
      const files = ["config.json", "model.onnx", ...(most ? [] : ["model.onnx.data"])];
      assert.deepEqual(readdirSync(folder).sort(), files);
      assert.deepEqual(JSON.parse(readFileSync(join(folder, "config.json"), "utf8")), model.config);
      const session = await Session.create(readFileSync(join(folder, "model.onnx")), { threads: 1, folder });

      const names = Array.from({ length: n_layer }, (_, i) => [`${i}.key`, `${i}.value`]).flat();
      type Cache = Record<string, Buffer>;
      const cache = (B: number, S: number): Cache => {
        const shape = [B, H, S, n_embd / H];
        const made = names.map((name) => [name, { data: new Float32Array(B * S * n_embd), shape, dtype: "float32" }]);
        return Object.fromEntries(made);
      };
      const prefixed = (prefix: string, all: Cache) =>
        Object.fromEntries(Object.entries(all).map(([name, buffer]) => [`${prefix}.${name}`, buffer]));
      /** Tokens [B, T] after those in `past`. */
      async function run(ids: Int32Array, B: number, past: Cache, S: number) {
        const T = ids.length / B;
        const logits = new Float32Array(B * T * V);
        const present = cache(B, S + T);
        const inputs: Cache = { input_ids: { data: ids, shape: [B, T], dtype: "int32" }, ...prefixed("past", past) };
        const outputs: Cache = {
          logits: { data: logits, shape: [B, T, V], dtype: "float32" },
          ...prefixed("present", present),
        };
        await session.run(bind(inputs), bind(outputs));
        return { logits, present };
      }

      for (const [B, T] of [
        [1, 1],
        [1, 16],
        [3, 7],
      ] as const) {
        const ids = randomInts(`onnx ${B} ${T}`, [B, T], 0, V);
        const program = await eager.program(({ x }) => model.logits(x), {
          variables: model.parameters,
          inputs: { x: { shape: [B, T], dtype: "int32" } },
        });
        const expected = (await program.run({ x: ids })).slice();
        await program.dispose();
        const tolerance = { atol: 1e-4, rtol: 1e-5 }; // sums of up to 800 products in another order; 3e-5 was seen
        const whole = await run(ids, B, cache(B, 0), 0);
        assertClose(whole.logits, expected, { ...tolerance, label: `${B} x ${T} at once` });
        // in pieces of 1, 2, 3 ... tokens
        let past = cache(B, 0);
        for (let at = 0, piece = 1; at < T; at += piece, piece++) {
          const end = Math.min(T, at + piece);
          const rows = (all: ArrayLike<number>, width: number) =>
            Array.from({ length: B }, (_, b) =>
              Array.prototype.slice.call(all, (b * T + at) * width, (b * T + end) * width),
            ).flat();
          const { logits, present } = await run(Int32Array.from(rows(ids, 1)), B, past, at);
          assertClose(logits, rows(expected, V), { ...tolerance, label: `${B} x ${T}, from ${at} to ${end}` });
          past = present;
        }
      }
      await session.dispose();
    });
  }
}
