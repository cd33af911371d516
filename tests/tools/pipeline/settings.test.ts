// The schedule that a text gets, and which settings win.

import assert from "node:assert/strict";
import { test } from "node:test";

import type { Settings } from "../../../lib/settings/rules.ts";
import { defaultsOfTraining, numberOf, sized, trainFlags } from "../../../tools/pipeline/settings.ts";
import { defaults as trainDefaults } from "../../../train.ts";

const BASE: Settings = {
  batch_size: 10,
  gradient_accumulation_steps: 1,
  block_size: 100,
  max_iters: 0,
  lr_decay_iters: 2000,
  warmup_iters: 100,
  eval_interval: 250,
  learning_rate: 1e-3,
  min_lr: 1e-4,
};
const NONE = new Set<string>();

test("a quarter of a short text is trained on half as long, and any text long enough to learn something", () => {
  const steps = (tokens: number, most = 2e6) => sized(BASE, NONE, {}, tokens, most).max_iters;
  assert.deepEqual(
    [1e9, 60_000, 15_000, 3_750].map((tokens) => steps(tokens)),
    [2000, 2000, 1000, 504],
  );
  assert.equal(steps(900), 248); // a page: it would learn nothing in the nine steps of ten passes
  assert.equal(steps(900, 4e4), 8, "where a step is many tokens, the least");
});

test("twice the batch, half the steps: the same number of tokens", () => {
  assert.equal(sized(BASE, NONE, {}, 15_000, 1.6e6).max_iters, 800);
  assert.equal(sized(BASE, NONE, { batch_size: 20 }, 15_000, 1.6e6).max_iters, 400);
});

test("warm-up, decay and evaluations fit the steps, and the last evaluation is at the end", () => {
  const settings = sized(BASE, NONE, {}, 15_000, 1.6e6);
  assert.deepEqual([settings.warmup_iters, settings.lr_decay_iters, settings.eval_interval], [40, 800, 100]);
  for (const max_iters of [1, 3, 20, 40, 90, 1000]) {
    const eval_interval = numberOf(sized({ ...BASE, max_iters }, NONE, {}, 0, 0), "eval_interval");
    assert.ok(eval_interval >= 1);
    if (max_iters > 8) assert.equal(max_iters % eval_interval, 0, `${max_iters} steps, every ${eval_interval}`);
  }
});

test("what was given as a flag stays", () => {
  const given = { ...BASE, max_iters: 500, warmup_iters: 99, eval_interval: 400, min_lr: 0.5 };
  const settings = sized(given, new Set(Object.keys(given)), { learning_rate: 1e-2 }, 16_000, 2e6);
  assert.deepEqual(
    [settings.max_iters, settings.warmup_iters, settings.eval_interval, settings.min_lr],
    [500, 99, 400, 0.5],
  );
});

test("the lowest learning rate keeps its ratio to one that was found", () => {
  assert.equal(sized(BASE, NONE, { learning_rate: 4e-3 }, 16_000, 2e6).min_lr, 4e-4);
});

test("all that train.ts can be told but the pipeline's own; only other values become flags", () => {
  const defaults = defaultsOfTraining();
  const own = Object.keys(trainDefaults).filter((key) => !Object.hasOwn(defaults, key));
  assert.deepEqual(own.sort(), ["dataset", "eval_only", "init_from", "out_dir"]);
  assert.deepEqual(trainFlags({ ...defaults, n_layer: 3, ffn: "gelu_tanh" }, defaults).sort(), [
    "--ffn=gelu_tanh",
    "--n_layer=3",
  ]);
});
