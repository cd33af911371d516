// What the tests of formats/ share: models in memory and on disk, compared to the bit.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { encodeSafetensors, type NamedTensor } from "../../engine/safetensors.ts";
import type { Foreign } from "../../formats/weights.ts";
import { GPT } from "../../model.ts";
import { assertSameBits, randomVariable, smallGPT } from "../support.ts";

/** The folder of a model that another program wrote; see fixtures/make_hf_fixtures.py. */
export const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/formats/${name}`, import.meta.url));

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
