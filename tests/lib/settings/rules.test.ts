// lib/settings/rules.ts keeps step with what it speaks of: the names that a key may have are those that the code knows, and a
// layer choice has a rule, a default, a line in --help=all and one in the documentation. Limits: configurator.test.ts.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { registry } from "../../../lib/nn/registry.ts";
import { OPTIMIZERS, rules, SCHEDULES } from "../../../lib/settings/rules.ts";
import { createOptimizer } from "../../../lib/training/optimizers/create.ts";
import { learningRateAt } from "../../../lib/training/schedule.ts";
import { GPT2_CHOICES } from "../../../model.ts";
import { defaults as trainDefaults } from "../../../train.ts";
import { ROOT, succeed } from "../../scripts.ts";
import { compiled, smallGPT } from "../../support.ts";

/** Keys with a name for a value. */
const NAMED = [...(Object.keys(registry) as (keyof typeof registry)[]), "optimizer", "schedule"] as const;

test("a layer choice may be what nn/ has", () => {
  for (const [key, names] of Object.entries(registry)) {
    assert.deepEqual(rules[key as "ffn"].options.toSorted(), names.toSorted(), key);
    assert.throws(() => smallGPT({ [key]: "toString" }), { message: `no ${key} toString` });
  }
});

test("each norm_position is another model", () => {
  const models = rules.norm_position.options.map((norm_position) => smallGPT({ norm_position }));
  const names = models.map(({ parameters }) => parameters.map(({ name }) => name).join());
  assert.equal(new Set(names).size, 3);
});

test("each optimizer is made by its name, and each schedule is another curve", async () => {
  assert.deepEqual(rules.optimizer.options, [...OPTIMIZERS]);
  const options = { beta1: 0.9, beta2: 0.95, momentum: 0.9, weight_decay: 0, grad_clip: 1 };
  const names = OPTIMIZERS.map(async (name) => {
    const made = await createOptimizer(name, smallGPT().decayGroups(), options, compiled);
    return made.constructor.name.toLowerCase();
  });
  assert.deepEqual(await Promise.all(names), [...OPTIMIZERS]);

  assert.deepEqual(rules.schedule.options, [...SCHEDULES]);
  const limits = { learning_rate: 1, min_lr: 0, warmup_iters: 0, lr_decay_iters: 100, decay_lr: true };
  const rates = SCHEDULES.map((schedule) => learningRateAt(90, { ...limits, schedule }));
  assert.equal(new Set(rates).size, SCHEDULES.length, rates.join());
});

const [, table = ""] =
  /^## What there is$(.*?)^## /ms.exec(readFileSync(join(ROOT, "docs/concepts/layers.md"), "utf8")) ?? [];
for (const [key, value] of Object.entries(GPT2_CHOICES)) {
  test(`${key}: a rule that allows GPT-2's, which is train.ts' default, and a word in docs/concepts/layers.md`, () => {
    assert.ok(Object.hasOwn(rules, key));
    assert.equal(rules[key as "pos"].safeParse(value).success, true);
    assert.equal(trainDefaults[key as keyof typeof GPT2_CHOICES], value);
    assert.match(table, new RegExp(`\`${key}[\`=]`));
  });
}

test("docs/concepts/layers.md has every name that a layer choice may have, but for GPT-2's", () => {
  const given: Record<string, unknown> = { ...GPT2_CHOICES, ffn: "gelu" };
  for (const key of ["ffn", "pos", "norm", "norm_position"] as const) {
    for (const name of rules[key].options.filter((name) => name !== given[key])) {
      assert.match(table, new RegExp(`\\| .*\`(${key}=)?${name}\`.* \\|`), `${key}=${name}`);
    }
  }
});

test("--help=all lists every layer choice, and every name that a key may have", async () => {
  const help = (await succeed("train.ts", ["--help=all"])).replaceAll(/\s+/g, " ");
  const line = (key: string) => new RegExp(` --${key}=.*?(?= --)`).exec(help)?.[0];
  for (const key of Object.keys(GPT2_CHOICES)) assert.ok(line(key), key);
  for (const key of NAMED) {
    for (const name of rules[key].options) assert.ok(line(key)!.includes(`"${name}"`), `${key}=${name}`);
  }
});

test("who looks for gqa or sparse attention by that key is told the keys that have it", () => {
  const { error } = rules.attention.safeParse("gqa");
  assert.match(error!.issues[0]!.message, /^"auto", "flash" or "dense" \(n_kv_head .* window .*\)$/);
});
