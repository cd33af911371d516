import assert from "node:assert/strict";
import { readdirSync, writeFileSync } from "node:fs";
import { join, parse } from "node:path";
import { test } from "node:test";

import { stringify } from "yaml";
import { UserError } from "../../../lib/common/errors.ts";
import { ExperimentConfig, type ExperimentSettings } from "../../../tools/experiment/experiment_config.ts";
import { defaults as trainDefaults } from "../../../train.ts";
import { ROOT, temporaryFolder } from "../../scripts.ts";

const FOLDER = temporaryFolder();
const SMALL = { max_iters: 20, eval_interval: 10, warmup_iters: 0, n_embd: 32, n_head: 2 };
const SHORT = { max_iters: 20, eval_interval: 10, warmup_iters: 0 };
const HEADS: ExperimentSettings = { name: "heads", base: SMALL, axes: { n_head: [1, 2], n_layer: [2, 4] } };

const refused = (settings: unknown, message: RegExp) =>
  assert.rejects(
    async () => new ExperimentConfig(settings as ExperimentSettings, "x.ts").validate(),
    (error: Error) => {
      assert.ok(error instanceof UserError, error.stack);
      assert.match(error.message, message);
      assert.doesNotMatch(error.message, /\n/);
      return true;
    },
  );

test("a grid is every combination, the last axis fastest, each with complete settings", async () => {
  const trials = await new ExperimentConfig(HEADS).validate();
  assert.deepEqual(
    trials.map(({ name }) => name),
    ["n_head=1, n_layer=2", "n_head=1, n_layer=4", "n_head=2, n_layer=2", "n_head=2, n_layer=4"],
  );
  assert.deepEqual(trials[1]!.settings, { n_head: 1, n_layer: 4 });
  assert.equal(trials[1]!.slug, "n_head=1,n_layer=4");
  assert.deepEqual(trials[1]!.config, { ...trainDefaults, ...SMALL, n_head: 1, n_layer: 4 });
});

test("a list is its trials; the base may be a config file, with changes over it", async () => {
  const experiment = new ExperimentConfig({
    name: "two",
    base: "config/train_shakespeare_char_cpu.ts",
    changes: { n_layer: 1 },
    search: "list",
    list: [{}, { n_layer: 3, dropout: 0.1 }],
  });
  const trials = await experiment.validate();
  assert.deepEqual(
    trials.map(({ name }) => name),
    ["base", "n_layer=3, dropout=0.1"],
  );
  assert.deepEqual(
    trials.map(({ config }) => [config.n_layer, config.dropout, config.n_embd]),
    [
      [1, 0, 128],
      [3, 0.1, 128],
    ],
  );
});

test("a random search draws from its ranges, the same each time, and other trials with another seed", () => {
  const settings = {
    name: "random",
    base: SMALL,
    search: "random",
    axes: {
      learning_rate: { log_uniform: [1e-4, 1e-2] },
      dropout: { uniform: [0, 0.3] },
      n_head: { choice: [1, 2, 4] },
    },
    trials: 200,
  } satisfies ExperimentSettings;
  const trialsOf = (changes: Partial<ExperimentSettings> = {}) =>
    new ExperimentConfig({ ...(settings as ExperimentSettings), ...changes }).trials();
  const trials = trialsOf();
  assert.equal(trials.length, 200);
  assert.deepEqual(trialsOf(), trials);
  assert.notDeepEqual(trialsOf({ search_seed: 2 }), trials);
  const rates = trials.map(({ settings }) => Number(settings.learning_rate));
  assert.ok(rates.every((rate) => rate >= 1e-4 && rate <= 1e-2));
  // half of a log-uniform draw is below the geometric mean: of 200, 100 +- 7; five deviations are 35
  const below = rates.filter((rate) => rate < 1e-3).length;
  assert.ok(Math.abs(below - 100) < 35, `${below} below 1e-3`);
  const dropouts = trials.map(({ settings }) => Number(settings.dropout));
  assert.ok(dropouts.every((dropout) => dropout >= 0 && dropout <= 0.3) && new Set(dropouts).size > 150);
  assert.deepEqual(new Set(trials.map(({ settings }) => settings.n_head)), new Set([1, 2, 4]));
  // a further axis leaves the others' values as they are
  const more = trialsOf({ axes: { ...settings.axes, n_layer: [1, 2] } });
  assert.deepEqual(
    more.map(({ settings }) => settings.learning_rate),
    rates,
  );
});

test("JSON, YAML and TypeScript give the same experiment", async () => {
  const { settings } = new ExperimentConfig({ ...HEADS, seeds: [3, 4], goal: "max", metric: "train_tokens_per_s" });
  const json = JSON.stringify(settings);
  for (const [extension, text] of [
    ["json", json],
    ["yaml", stringify(settings)],
    ["ts", `export default ${json};\n`],
  ] as const) {
    const path = join(FOLDER, `saved.${extension}`);
    writeFileSync(path, text);
    assert.deepEqual((await ExperimentConfig.load(path)).settings, settings, extension);
  }
});

test("the experiments that ship are valid, and small enough to try", async () => {
  const folder = join(ROOT, "config", "experiments");
  for (const file of readdirSync(folder)) {
    const experiment = await ExperimentConfig.load(join(folder, file));
    const trials = await experiment.validate();
    assert.equal(experiment.settings.name, parse(file).name);
    assert.equal(experiment.settings.seeds.length, 3);
    assert.ok(trials.every(({ config }) => Number(config.max_iters) <= 1000 && Number(config.n_embd) <= 128));
  }
});

test("a mistake is one line that names the place", async () => {
  await refused(
    { ...HEADS, axes: { n_heads: [1] } },
    /^x\.ts, axes\.n_heads: unknown key "n_heads"; did you mean n_head\?$/,
  );
  await refused({ ...HEADS, base: { n_layr: 1 } }, /^x\.ts, base: unknown key "n_layr"; did you mean n_layer/);
  await refused(
    { ...HEADS, axes: { n_head: [1, 1.5] } },
    /axes\.n_head: n_head must be an integer of at least 1, got 1\.5/,
  );
  await refused(
    { ...HEADS, axes: { n_head: [1, 3] } },
    /^x\.ts, trial n_head=3: n_embd 32 does not divide by n_head 3/,
  );
  await refused({ ...HEADS, axes: { n_head: [1, 1] } }, /trial n_head=1: it is there twice/);
  await refused({ ...HEADS, axes: { seed: [1, 2] } }, /seed can't be varied; give seeds/);
  await refused({ ...HEADS, axes: { out_dir: ["a"] } }, /out_dir can't be varied/);
  await refused({ ...HEADS, changes: { init_from: "resume" } }, /trial n_head=1, n_layer=2: init_from "resume"/);
  await refused({ ...HEADS, seeds: [1, 1] }, /seed 1 is there twice/);
  await refused({ ...HEADS, seeds: [-1] }, /seeds: seed must be an integer from 0/);
  for (const name of ["../x", "a/b", "..", "", "<b>"])
    await refused({ ...HEADS, name }, /^x\.ts: name: must be letters/);
  await refused({ ...HEADS, axis: {} }, /Unrecognized key: "axis"/);
  await refused({ ...HEADS, axes: {} }, /nothing is varied/);
  await refused({ ...HEADS, axes: { n_head: [] } }, /axes\.n_head has no values/);
  await refused({ ...HEADS, axes: { dropout: { uniform: [0, 0.1] } } }, /axes\.dropout is a range/);
  await refused({ ...HEADS, search: "random", axes: { dropout: { uniform: [0.2, 0.1] } } }, /goes from 0\.2 to 0\.1/);
  await refused({ ...HEADS, search: "random", axes: { min_lr: { log_uniform: [0, 0.1] } } }, /start above 0/);
  await refused({ ...HEADS, search: "random", axes: { n_head: [1, 2] }, trials: 3 }, /only 2 that differ were found/);
  await refused({ ...HEADS, search: "list" }, /needs list/);
  await refused({ ...HEADS, base: join(FOLDER, "none.ts") }, /no config file .*none\.ts/);
});

test("the base may extend others, and so may an experiment; a relative path is the file's own", async () => {
  writeFileSync(join(FOLDER, "base.yaml"), `extends: [${join(ROOT, "config/models/tiny.yaml")}]\nn_layer: 2\n`);
  const first = { name: "first", base: join(FOLDER, "base.yaml"), axes: { n_head: [1, 2] }, changes: SHORT };
  writeFileSync(join(FOLDER, "first.json"), JSON.stringify(first));
  writeFileSync(join(FOLDER, "second.yaml"), "extends: first.json\nname: second\nseeds: [7]\n");
  const experiment = await ExperimentConfig.load(join(FOLDER, "second.yaml"));
  assert.deepEqual([experiment.settings.name, experiment.settings.seeds], ["second", [7]]);
  const trials = await experiment.validate();
  assert.deepEqual(
    trials.map(({ config }) => [config.n_head, config.n_layer, config.n_embd, config.max_iters]),
    [
      [1, 2, 128, 20],
      [2, 2, 128, 20],
    ],
  );
});

test("files that are no experiment", async () => {
  writeFileSync(join(FOLDER, "none.ts"), "export const name = 1;");
  writeFileSync(join(FOLDER, "list.json"), "[1]");
  writeFileSync(join(FOLDER, "broken.yaml"), "a: [");
  for (const [file, message] of [
    ["none.ts", /none\.ts: no default export/],
    ["list.json", /list\.json must hold an object/],
    ["broken.yaml", /broken\.yaml: /],
    ["absent.ts", /no experiment's file .*absent\.ts/],
    ["x.py", /x\.py is no experiment's file/],
  ] as const) {
    await assert.rejects(ExperimentConfig.load(join(FOLDER, file)), (error: Error) => {
      assert.ok(error instanceof UserError);
      assert.match(error.message, message);
      return true;
    });
  }
});

test("a name that no folder can have gets one with a checksum, and others keep apart from it", () => {
  const slugs = new ExperimentConfig({
    name: "odd",
    base: SMALL,
    axes: { wandb_run_name: ["a/b", "a?b", "../..", "<b>", "plain"] },
  })
    .trials()
    .map(({ slug }) => slug);
  assert.equal(new Set(slugs).size, 5);
  assert.equal(slugs[4], "wandb_run_name=plain");
  for (const slug of slugs) assert.match(slug, /^wandb_run_name=[\w.-]+$/);
});
