// What is said of a value that a key can't have: what is offered in this script, and what may have been meant.

import assert from "node:assert/strict";
import { test } from "node:test";

import { checkValue } from "../../../lib/settings/check_value.ts";
import type { Settings } from "../../../lib/settings/rules.ts";
import { choice } from "../../../lib/settings/show.ts";
import { defaults as trainDefaults } from "../../../train.ts";

const SAMPLING = { dtype: "float32", device: "auto" };

function said(key: string, value: unknown, defaults: Settings = trainDefaults): string {
  const checked = checkValue(key, value, defaults);
  return "problem" in checked ? checked.problem + checked.hint : assert.fail(`${key} may be ${checked.value}`);
}

test("choices are listed as a person would list them", () => {
  assert.equal(choice(["a"]), '"a"');
  assert.equal(choice(["a", "b"]), '"a" or "b"');
  assert.equal(choice(["a", "b", "c"]), '"a", "b" or "c"');
});

test("a mistyped name gets the nearest one; a name that is near to none doesn't", () => {
  assert.match(said("ffn", "swigul"), /^ffn must be "gelu", .* or "moe", got "swigul"; did you mean "swiglu"\?$/);
  assert.match(said("optimizer", "adam"), /; did you mean "adamw"\?$/);
  assert.match(said("schedule", "Cosin"), /; did you mean "cosine"\?$/);
  assert.match(said("attention", "recompte"), /; did you mean "recompute"\?$/);
  assert.match(said("optimizer", "sophia"), /or "sgd", got "sophia"$/);
  assert.equal(said("n_layer", "two"), 'n_layer must be an integer of at least 1, got "two"');
  assert.equal(said("bias", "ture"), 'bias must be true or false, got "ture"');
});

test("nanoGPT's devices, backends and number formats are told what there is here", () => {
  for (const device of ["cuda", "cuda:1", "mps", "GPU"]) {
    assert.match(said("device", device), /^device must be "auto" or "cpu", got .*; a GPU is not used so far: leave/);
  }
  for (const backend of ["nccl", "gloo"]) {
    assert.match(
      said("backend", backend),
      /^backend must be "mpi", got .*; a run is one process so far: leave --backend/,
    );
  }
  const dtype = 'dtype must be "float32" or "float16", got';
  assert.equal(said("dtype", "int8"), `${dtype} "int8"; int8 is for trained weights: npx tsx sample.ts --dtype=int8`);
  assert.match(
    said("dtype", "bfloat16"),
    /^dtype must be "float32" or "float16", got .*; leave --dtype out: .* float32/,
  );
  assert.equal(said("dtype", "fp16"), `${dtype} "fp16"; did you mean "float16"?`);
  assert.equal(said("dtype", "flaot32"), `${dtype} "flaot32"; did you mean "float32"?`);
});

test("scripts that use trained weights offer int8, and no float16", () => {
  assert.deepEqual(checkValue("dtype", "int8", SAMPLING), { value: "int8" });
  assert.match(said("dtype", "float16", SAMPLING), /^dtype must be "float32" or "int8", got "float16"; float16 is for/);
  assert.deepEqual(checkValue("dtype", "float16", trainDefaults), { value: "float16" });
});
