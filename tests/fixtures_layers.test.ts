// The fixtures of the layer choices are whole: every file has what index.json lists and nothing else, its numbers are
// finite, models have a gradient for each weight, and all of it stays small enough for git.

import assert from "node:assert/strict";
import { readdirSync, statSync } from "node:fs";
import test from "node:test";
import { fileURLToPath } from "node:url";

import { SafetensorsFile } from "../lib/common/safetensors.ts";
import { layerFixture, layerIndex, withPrefix } from "./fixtures/layers/read.ts";

const FOLDER = fileURLToPath(new URL("./fixtures/layers/", import.meta.url));
const SIZE_LIMIT = 1_500_000; // bytes, all files together, as in make.py
const names = Object.keys(layerIndex);

test("the folder has the files of the index, and they are small", () => {
  const files = readdirSync(FOLDER).filter((file) => /\.(safetensors|json)$/.test(file));
  assert.deepEqual(files.sort(), [...names.map((name) => `${name}.safetensors`), "index.json"].sort());
  const size = files.reduce((sum, file) => sum + statSync(FOLDER + file).size, 0);
  assert.ok(size < SIZE_LIMIT, `${size} bytes`);
});

for (const name of names) {
  test(`${name}: every listed tensor, finite`, () => {
    const { kind } = layerIndex[name]!;
    const { tensors, integers } = layerFixture(name);
    const file = new SafetensorsFile(`${FOLDER}${name}.safetensors`);
    file.close();
    assert.deepEqual([...file.entries.keys()].sort(), [...tensors.keys(), ...integers.keys()].sort());
    for (const [key, { data }] of tensors) {
      assert.ok(data.length > 0 && data.every(Number.isFinite), key);
      assert.ok(data.some((x) => x !== 0) || key.startsWith("d_"), `${key} is all zeros`);
    }
    if (kind === "table") return;

    const weights = withPrefix(tensors, "weights/");
    const shapes = (map: typeof weights) => [...map].map(([key, { shape }]) => [key, shape]);
    assert.deepEqual(shapes(withPrefix(tensors, "grads/")), shapes(weights));
    if (kind !== "model") return;
    assert.ok(weights.has("transformer.wte.weight"));
    const [B, T] = integers.get("x")!.shape as [number, number];
    assert.ok(T % 8 !== 0 && T >= 12 && T <= 20);
    const V = layerIndex[name]!.config.vocab_size as number;
    assert.deepEqual(tensors.get("logits")!.shape, [B, T, V]);

    // the loss is that of the logits; float32 sums differ in the last places
    const { data: logits } = tensors.get("logits")!;
    const { data: targets } = integers.get("targets")!;
    const counted = [...targets.keys()].filter((i) => integers.get("masked")?.data[i] !== 0);
    const losses = counted.map((i) => {
      const row = logits.subarray(i * V, (i + 1) * V);
      return Math.log(row.reduce((sum, x) => sum + Math.exp(x), 0)) - row[targets[i]!]!;
    });
    const loss = losses.reduce((sum, x) => sum + x, 0) / counted.length;
    assert.ok(Math.abs(loss - tensors.get("loss")!.data[0]!) < 1e-5, `loss ${loss}`);
  });
}

test("an unknown fixture is refused", () => {
  assert.throws(() => layerFixture("nothing"), /no fixture nothing/);
});
