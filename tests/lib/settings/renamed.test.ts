// lib/settings/renamed.ts: an earlier name is understood wherever a setting can come from, with a line where a person wrote it.

import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { configure, type Options } from "../../../configurator.ts";
import { compare } from "../../../lib/bench/compare.ts";
import { MEASURING } from "../../../lib/bench/settings.ts";
import { checkModelArgs } from "../../../lib/formats/model_args.ts";
import { METRICS_FILE, readHistory } from "../../../lib/monitor/metrics_file.ts";
import { LAYER_CHOICES } from "../../../lib/nn/choices.ts";
import { currentKey, RENAMED_KEYS, RENAMED_VALUES } from "../../../lib/settings/renamed.ts";
import { rules } from "../../../lib/settings/rules.ts";
import { ExperimentConfig, type ExperimentSettings } from "../../../tools/experiment/experiment_config.ts";
import { readConfig } from "../../../tools/experiment/run_folder.ts";
import { readState } from "../../../tools/pipeline/state.ts";
import { temporaryFolder } from "../../scripts.ts";
import { userError } from "../text/support.ts";

const FOLDER = temporaryFolder();
const OLD = { attention: "flash", attn_block_size: 16, expert_capacity: 1.5 };
const NOW = { attention: "recompute", attn_chunk: 16, expert_capacity_factor: 1.5 };

/** What configure() makes of the three, and the lines that it prints. */
async function read(argv: string[], options: Options = {}) {
  const lines: string[] = [];
  const defaults = { ...LAYER_CHOICES, choices: MEASURING.choices };
  const config = await configure(import.meta.url, defaults, {
    env: {},
    log: (line) => lines.push(line),
    ...options,
    argv,
  });
  const { attention, attn_chunk, expert_capacity_factor } = config;
  return { settings: { attention, attn_chunk, expert_capacity_factor }, config, lines: lines.join("\n") };
}

function write(name: string, text: string): string {
  const path = join(FOLDER, name);
  writeFileSync(path, text);
  return path;
}

function assertNamed(lines: string, source: (key: string) => string): void {
  const named = (line: string, key: string) =>
    assert.ok(lines.includes(`${line} (${source(key)})`), `${line}: ${lines}`);
  named("attention=flash is now called recompute", "attention");
  named("attn_block_size is now called attn_chunk", "attn_block_size");
  named("expert_capacity is now called expert_capacity_factor", "expert_capacity");
}

test("every new name is a key or a value that its rule takes, and no earlier name is one", () => {
  for (const [old, now] of Object.entries(RENAMED_KEYS)) {
    assert.ok(Object.hasOwn(rules, now) && !Object.hasOwn(rules, old), `${old} -> ${now}`);
  }
  for (const [old, now] of Object.entries(RENAMED_VALUES.attention!)) {
    assert.ok(rules.attention.safeParse(now).success && !rules.attention.safeParse(old).success, `${old} -> ${now}`);
  }
  assert.equal(currentKey("constructor"), "constructor");
});

test("as flags, with = and with a space", async () => {
  const { settings, lines } = await read(["--attention=flash", "--attn_block_size", "16", "--expert_capacity=1.5"]);
  assert.deepEqual(settings, NOW);
  assertNamed(lines, (key) => `--${key}`);
});

test("in files of settings", async () => {
  for (const path of [
    write("old.ts", `export default ${JSON.stringify(OLD)};`),
    write("old.yaml", "attention: flash\nattn_block_size: 16\nexpert_capacity: 1.5\n"),
    write("old.json", JSON.stringify(OLD)),
  ]) {
    const { settings, lines } = await read([path]);
    assert.deepEqual(settings, NOW, path);
    assertNamed(lines, () => path);
  }
});

test("in the environment", async () => {
  const env = { NANOGPT_ATTENTION: "flash", NANOGPT_ATTN_BLOCK_SIZE: "16", NANOGPT_EXPERT_CAPACITY: "1.5" };
  const { settings, lines } = await read([], { env });
  assert.deepEqual(settings, NOW);
  assertNamed(lines, (key) => `NANOGPT_${key.toUpperCase()}`);
});

test("in the list of settings that bench.ts varies", async () => {
  const { config, lines } = await read(["--choices=pos,attn_block_size"]);
  assert.deepEqual(config.choices, ["pos", "attn_chunk"]);
  assert.match(lines, /^choices=attn_block_size is now called attn_chunk \(--choices\)$/m);
});

test("a mistake in a renamed setting names it by today's name, and where it was set", async () => {
  await assert.rejects(
    read(["--attn_block_size=x"]),
    userError(/^attn_chunk must be an integer .*\(--attn_block_size\)/),
  );
});

test("one source can't give both names; a later source overrides an earlier one under either", async () => {
  const file = write("both.yaml", "attn_chunk: 8\nattn_block_size: 16\n");
  const message = /^attn_block_size is the earlier name of attn_chunk; give only attn_chunk /;
  await assert.rejects(read([file]), userError(message));
  await assert.rejects(read(["--attn_chunk=8", "--attn_block_size=16"]), userError(message));
  const old = write("one.yaml", "attn_block_size: 16\n");
  assert.equal((await read([old, "--attn_chunk=8"])).settings.attn_chunk, 8);
  assert.equal((await read([write("new.yaml", "attn_chunk: 8\n"), "--attn_block_size=16"])).settings.attn_chunk, 16);
});

test("in the settings of a run that is resumed, silently", async () => {
  const { settings, lines } = await read([], { under: () => ({ source: "ckpt.json", settings: OLD }) });
  assert.deepEqual(settings, NOW);
  assert.match(lines, /^settings as in ckpt\.json$/);
});

test("in a checkpoint's model_args", () => {
  const shape = {
    block_size: 8,
    vocab_size: 10,
    n_layer: 1,
    n_head: 1,
    n_embd: 8,
    dropout: 0,
    bias: true,
    ffn: "gelu",
  };
  const { attention, attn_chunk, expert_capacity_factor } = checkModelArgs({ ...shape, ...OLD }, "ckpt.json");
  assert.deepEqual({ attention, attn_chunk, expert_capacity_factor }, NOW);
});

test("in experiments: lists of values, single trials, bases; trials keep the names they were run under", async () => {
  const axes = { attention: ["auto", "flash"], attn_block_size: [8, 16] };
  const grid = new ExperimentConfig({
    name: "x",
    base: { expert_capacity: 1.5 },
    axes,
  } as unknown as ExperimentSettings);
  const trials = await grid.validate();
  assert.deepEqual(
    trials.map(({ name, config }) => [name, config.attention, config.attn_chunk, config.expert_capacity_factor]),
    ["auto", "flash"].flatMap((name) =>
      [8, 16].map((size) => [
        `attention=${name}, attn_block_size=${size}`,
        ...[name === "flash" ? "recompute" : name, size, 1.5],
      ]),
    ),
  );
  assert.ok(trials.every(({ config }) => !Object.hasOwn(config, "attn_block_size")));
  assert.deepEqual(await grid.renames(), [
    "expert_capacity is now called expert_capacity_factor",
    "attention=flash is now called recompute",
    "attn_block_size is now called attn_chunk",
  ]);
  const list = {
    name: "x",
    base: write("base.yaml", "attention: flash\n"),
    search: "list",
    list: [{ attn_block_size: 8 }],
  };
  const one = new ExperimentConfig(list as unknown as ExperimentSettings);
  const { attention, attn_chunk } = (await one.validate())[0]!.config;
  assert.deepEqual([attention, attn_chunk], ["recompute", 8]);
  assert.equal((await one.renames()).length, 2);
  const both = { name: "x", base: { attn_chunk: 8, attn_block_size: 8 }, axes: { n_layer: [1] } };
  const config = new ExperimentConfig(both as unknown as ExperimentSettings);
  await assert.rejects(config.validate(), userError(/attn_chunk is given under two names/));
});

test("in what runs, experiments, pipelines and benchmarks have written", () => {
  const folder = join(FOLDER, "run");
  mkdirSync(folder);
  writeFileSync(join(folder, "config.json"), JSON.stringify(OLD));
  assert.deepEqual(readConfig(folder), NOW);

  const start = { event: "start", time: 1, iter: 0, resumed: false, name: "x", pid: 1, config: OLD, facts: {} };
  writeFileSync(join(folder, METRICS_FILE), `${JSON.stringify(start)}\n`);
  assert.deepEqual(readHistory(folder).start!.config, NOW);

  const given = { attn_block_size: { value: 16, from: "flag" }, attention: { value: "flash", from: "file" } };
  const stage = {
    ...{ state: "done", why: "", started: "", ended: "", seconds: 1, commands: [], outputs: {}, error: null },
    inputs: { settings: OLD, files: {} },
  };
  const saved = { format_version: 1, given, config_file: null, stages: { train: stage } };
  writeFileSync(join(folder, "pipeline.json"), JSON.stringify(saved));
  const state = readState(folder)!;
  assert.deepEqual(state.given, {
    attn_chunk: { value: 16, from: "flag" },
    attention: { value: "recompute", from: "file" },
  });
  assert.deepEqual(state.stages.train!.inputs.settings, NOW);

  const hardware = { cpu: "some", cores: 2, memory_gb: 8, platform: "linux x64" };
  const report = { name: "layers", date: "2026-11-25T17:30:05.123Z", versions: {}, hardware, facts: {} };
  const one = (name: string, value: number) => ({ name, value, unit: "tokens/s", better: "higher" as const });
  const before = [one("drawn_tokens_per_s_ratio[attention=flash attn_block_size=16]", 2)];
  const after = [one("sampled_tokens_per_s_ratio[attention=recompute attn_chunk=16]", 3)];
  const lines = compare({ ...report, settings: OLD, metrics: before }, { ...report, settings: NOW, metrics: after });
  assert.doesNotMatch(lines.join("\n"), /other settings/);
  assert.match(lines.join("\n"), /attn_chunk=16\] +2 +3 +tokens\/s +1\.500 +faster/);
});
