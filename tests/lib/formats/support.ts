// What the tests of formats/ share: models in memory and on disk, compared to the bit.

import assert from "node:assert/strict";
import { cpSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { encodeSafetensors, type NamedTensor, openSafetensors } from "../../../lib/common/safetensors.ts";
import { openHuggingFace } from "../../../lib/formats/huggingface.ts";
import type { Foreign } from "../../../lib/formats/weights.ts";
import { GPT } from "../../../model.ts";
import { temporaryFolder } from "../../scripts.ts";
import { assertSameBits, randomFloats, randomVariable, sizeOf, smallGPT } from "../../support.ts";
import { userError } from "../text/support.ts";

/** The folder of a model that another program wrote; see fixtures/make_hf_fixtures.py. */
export const fixture = (name: string) => fileURLToPath(new URL(`../../fixtures/formats/${name}`, import.meta.url));

/** A path for a folder that isn't there yet; removed with the test. */
export const newFolder = () => join(temporaryFolder(), "model");

/** A copy of a fixture. */
export function copyOf(name: string): string {
  const folder = newFolder();
  cpSync(fixture(name), folder, { recursive: true });
  return folder;
}

/** The tensors of a folder as they are there, in float32. */
export function tensorsIn(folder: string): NamedTensor[] {
  const file = openSafetensors(folder);
  const tensors = [...file.entries].map(([name, { shape }]) => {
    const data = new Float32Array(sizeOf(shape));
    file.read(name, shape, data);
    return { name, shape, data };
  });
  file.close();
  return tensors;
}

/** A small model with a random number in every weight, biases and scales too. */
export function shakenGPT(changes: Parameters<typeof smallGPT>[0] = {}): GPT {
  const model = smallGPT(changes);
  for (const { name, shape, data } of model.parameters) data.set(randomVariable(name, shape).data);
  return model;
}

/** The model of an opened folder, which is closed. */
export function modelOf({ modelArgs, tensors }: Foreign): GPT {
  const model = new GPT(modelArgs);
  for (const { name, shape, data } of model.parameters) tensors.read(name, shape, data);
  tensors.close();
  return model;
}

export function assertSameModel(actual: GPT, expected: GPT): void {
  assert.deepEqual(actual.config, expected.config);
  assert.deepEqual(
    actual.parameters.map(({ name }) => name),
    expected.parameters.map(({ name }) => name),
  );
  for (const [i, { name, data }] of actual.parameters.entries())
    assertSameBits(data, expected.parameters[i]!.data, name);
}

/** Where `place` says that a weight lies as it is, there are its bytes. Returns the names of these weights. */
export function placedNames({ modelArgs, tensors }: Foreign): string[] {
  const model = new GPT(modelArgs);
  const placed = model.parameters.filter(({ name, shape, data }) => {
    tensors.read(name, shape, data);
    const place = tensors.place(name);
    if (!place) return false;
    const bytes = readFileSync(place.path).subarray(place.offset, place.offset + place.bytes);
    assert.ok(bytes.equals(Buffer.from(data.buffer)), name);
    return true;
  });
  return placed.map(({ name }) => name);
}

/** Change a JSON file of a folder; `undefined` takes a key out. */
export function editJson(folder: string, name: string, changes: Record<string, unknown>): void {
  const path = join(folder, name);
  writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, "utf8")), ...changes }));
}

/** Write model.safetensors of these tensors into a folder. */
export function writeTensors(folder: string, tensors: readonly NamedTensor[]): void {
  writeFileSync(join(folder, "model.safetensors"), Buffer.concat(encodeSafetensors(tensors)));
}

/** Open a folder in Hugging Face's format; what that says goes to `log`. */
export const openHF = (folder: string, log: (line: string) => void = () => {}) =>
  openHuggingFace(join(folder, "config.json"), folder, log);

/** The tests that every kind of folder in Hugging Face's format gets; `embeddings` is its name for wte.weight. */
export function testHuggingFaceFolder(kind: { tied: string; embeddings: string; layers: string }): void {
  test("an output layer in a tied model's file: dropped where it is the embeddings, else kept with a word", () => {
    const folder = copyOf(kind.tied);
    const lines: string[] = [];
    const tied = modelOf(openHF(folder));
    const tensors = tensorsIn(folder);
    const { shape, data } = tensors.find(({ name }) => name === kind.embeddings)!;
    writeTensors(folder, [...tensors, { name: "lm_head.weight", shape, data }]);
    assertSameModel(modelOf(openHF(folder, (line) => lines.push(line))), tied);
    assert.equal(lines.length, 0);

    const other = randomFloats("head", [...shape]);
    writeTensors(folder, [...tensors, { name: "lm_head.weight", shape, data: other }]);
    const model = modelOf(openHF(folder, (line) => lines.push(line)));
    assert.equal(model.config.tie_weights, false);
    assert.deepEqual(model.lmHead.data, other);
    assert.match(lines.join("\n"), /^lm_head\.weight is not the token embeddings[^\n]*$/);
  });

  const LINUX = { skip: process.platform !== "linux" && "counts open files in /proc" };
  test("a refused model leaves no file open", LINUX, () => {
    const folder = copyOf(kind.tied);
    editJson(folder, "config.json", { [kind.layers]: 3 });
    const before = readdirSync("/proc/self/fd").length;
    assert.throws(() => openHF(folder), userError(/no tensor/));
    assert.equal(readdirSync("/proc/self/fd").length, before);
  });
}
