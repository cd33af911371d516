// lib/settings/rules.ts keeps step with what it speaks of: the names that a key may have are those that the code knows, and a
// layer choice has a rule, a default, a line in --help=all and one in the documentation. Limits: configurator.test.ts.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { NAMES } from "../../../lib/nn/choices.ts";
import { rules } from "../../../lib/settings/rules.ts";
import { OPTIMIZERS, SCHEDULES } from "../../../lib/training/choices.ts";
import { LAYER_CHOICES } from "../../../model.ts";
import { defaults as trainDefaults } from "../../../train.ts";
import { ROOT, succeed } from "../../scripts.ts";
import { smallGPT } from "../../support.ts";

/** Keys with a name for a value. */
const NAMED = { ...NAMES, optimizer: OPTIMIZERS, schedule: SCHEDULES };

test("a name that no choice has is refused by the model too", () => {
  for (const key of Object.keys(NAMES)) {
    assert.throws(() => smallGPT({ [key]: "toString" }), { message: `no ${key} toString` });
  }
});

test("every name of a layer choice makes a model", () => {
  for (const [key, names] of Object.entries(NAMES)) {
    for (const name of names) assert.equal(smallGPT({ [key]: name }).config[key as "pos"], name);
  }
});

test("each norm_position is another model", () => {
  const models = rules.norm_position.options.map((norm_position) => smallGPT({ norm_position }));
  const names = models.map(({ parameters }) => parameters.map(({ name }) => name).join());
  assert.equal(new Set(names).size, 3);
});

const [, table = ""] =
  /^## What there is$(.*?)^## /ms.exec(readFileSync(join(ROOT, "docs/concepts/layers.md"), "utf8")) ?? [];
for (const [key, value] of Object.entries(LAYER_CHOICES)) {
  test(`${key}: a rule that allows GPT-2's, which is train.ts' default, and a word in docs/concepts/layers.md`, () => {
    assert.ok(Object.hasOwn(rules, key));
    assert.equal(rules[key as "pos"].safeParse(value).success, true);
    assert.equal(trainDefaults[key as keyof typeof LAYER_CHOICES], value);
    assert.match(table, new RegExp(`\`${key}[\`=]`));
  });
}

test("docs/concepts/layers.md has every name that a layer choice may have, but for GPT-2's", () => {
  const given: Record<string, unknown> = { ...LAYER_CHOICES, ffn: "gelu" };
  for (const key of ["ffn", "pos", "norm", "norm_position"] as const) {
    for (const name of rules[key].options.filter((name) => name !== given[key])) {
      assert.match(table, new RegExp(`\\| .*\`(${key}=)?${name}\`.* \\|`), `${key}=${name}`);
    }
  }
});

test("--help=all lists every layer choice, and every name that a key may have", async () => {
  const help = (await succeed("train.ts", ["--help=all"])).replaceAll(/\s+/g, " ");
  const line = (key: string) => new RegExp(` --${key}=.*?(?= --)`).exec(help)?.[0];
  for (const key of Object.keys(LAYER_CHOICES)) assert.ok(line(key), key);
  for (const [key, names] of Object.entries(NAMED)) {
    for (const name of names) assert.ok(line(key)!.includes(`"${name}"`), `${key}=${name}`);
  }
});

test("who looks for gqa or sparse attention by that key is told the keys that have it", () => {
  const { error } = rules.attention.safeParse("gqa");
  assert.match(error!.issues[0]!.message, /^"auto", "recompute" or "dense" \(n_kv_head .* window .*\)$/);
});
